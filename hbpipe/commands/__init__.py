"""What the verbs of the command line do: settings in, work done, a result printed.

One module for each group of ``hbpipe.verbs``; a verb is the function of its name. Every function
takes the parsed arguments and returns the exit code. Results go to standard output, as text or as
one JSON object; progress goes to standard error.
"""
