"""The verbs of the command line and their options; what they do is in ``hbpipe.commands``.

Nothing heavy is imported here: ``hbpipe --help`` answers at once.
"""
