"""The inventory: every file that is or was there, and which of equal content counts.

Surveys new and changed files (footers, and time columns where footers do not tell) and writes
nothing. A file with the same bytes under a new name counts once; a file that was renamed keeps
what is known of it; one that vanished keeps its statistics.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from hbpipe.data.events import EventFormat, FileState, find_files, full_path
from hbpipe.data.quantities import Metric
from hbpipe.data.rejections import Rejection
from hbpipe.data.survey import Survey, survey_file
from hbpipe.errors import EventsError
from hbpipe.run.engine import Engine
from hbpipe.run.fingerprints import format_digest
from hbpipe.run.ledger import FileEntry, from_survey


@dataclass(frozen=True)
class Inventory:
    """All files known, as the ledger will have them, by path relative to ``form.root``.

    ``surveyed`` are the files that were read just now; ``undated`` are their rows without a
    business day, of files that count.
    """

    form: EventFormat
    files: dict[str, FileEntry]
    surveyed: tuple[str, ...]
    undated: tuple[Rejection, ...]

    @property
    def level_types(self) -> tuple[str, ...]:
        """How the levels are stored: ``int64`` or ``string`` each."""
        return next(iter(self.files.values())).level_types


@dataclass(frozen=True)
class Delivery:
    """The files of a plan that was made before, by path, and those that had vanished by then.

    ``plan`` names it in errors; ``files`` gives the SHA-256 of each.
    """

    plan: str
    files: Mapping[str, str]
    vanished: frozenset[str]

    def among(
        self, present: Iterable[FileState], known: Mapping[str, FileEntry]
    ) -> list[FileState]:
        """Take its own files as they are, and all others as the ledger knows them.

        What has arrived, changed or vanished besides is left for the next plan.
        """
        theirs = [file for file in present if file.path in self.files]
        others = [
            entry.file
            for path, entry in known.items()
            if path not in self.files and path not in self.vanished and entry.state != "gone"
        ]
        return [*theirs, *others]

    def check(self, files: Mapping[str, FileEntry]) -> None:
        """Refuse files that are not as the plan says.

        Raises
        ------
        EventsError
            Naming the first one.
        """
        for path, sha256 in sorted(self.files.items()):
            entry = files.get(path)
            if entry is None or entry.state == "gone":
                raise self._changed(path, "has vanished")
            if entry.sha256 != sha256:
                raise self._changed(path, f"has other content, of SHA-256 {entry.sha256}")

    def _changed(self, path: str, found: str) -> EventsError:
        return EventsError(
            f"a file of the plan {found}",
            where={"plan": self.plan, "file": path},
            expected=f"SHA-256 {self.files[path]}",
            remedy="plan again: the plan is for files that are no more",
        )


def take_inventory(
    form: EventFormat,
    metrics: tuple[Metric, ...],
    known: Mapping[str, FileEntry],
    engine: Engine,
    delivery: Delivery | None = None,
) -> Inventory:
    """Compare the files that are there, or those of a delivery, with those that are known.

    Raises
    ------
    EventsError
        When there are no files, one cannot be used, or ids have different types; when a file is
        not as the delivery says.
    """
    form, present = locate_events(form)
    if delivery is not None:
        present = delivery.among(present, known)
    files, surveys = _survey(form, metrics, known, present, engine)
    if delivery is not None:
        delivery.check(files)
    files = _mark_duplicates(files, known)
    _check_level_types(form, files.values())
    return Inventory(
        form=form,
        files=files,
        surveyed=tuple(survey.file.path for survey in surveys),
        undated=tuple(
            rejection
            for survey in surveys
            if files[survey.file.path].state == "read"
            for rejection in survey.undated
        ),
    )


def locate_events(form: EventFormat) -> tuple[EventFormat, list[FileState]]:
    """List the event files; a single file is found in its folder, so that it has a name.

    Raises
    ------
    EventsError
        When there are none.
    """
    files = find_files(form)
    if [file.path for file in files] != [""]:
        return form, files
    folder, name = posixpath.split(form.root)
    return replace(form, root=folder or "."), [replace(files[0], path=name)]


def _survey(
    form: EventFormat,
    metrics: tuple[Metric, ...],
    known: Mapping[str, FileEntry],
    found: list[FileState],
    engine: Engine,
) -> tuple[dict[str, FileEntry], list[Survey]]:
    """Bring the entries of all files up to date, touching only new and changed ones."""
    present = {file.path: file for file in found}
    reading = format_digest(form)
    touched = [file for file in present.values() if not _unchanged(known, file, reading)]
    tasks = [
        engine.submit(
            survey_file, form, file, metrics, label=f"survey of {full_path(form.root, file.path)}"
        )
        for file in touched
    ]
    surveys = engine.gather(tasks)
    entries = {path: entry for path, entry in known.items() if path in present}
    for survey in surveys:
        before, entry = known.get(survey.file.path), from_survey(survey, reading)
        if before is not None and _same_content(before, entry):
            entry = replace(before, file=survey.file)  # only touched, or back again
        entries[survey.file.path] = replace(entry, state="read", duplicate_of=None)
    gone = {path: _vanished(entry) for path, entry in known.items() if path not in present}
    return dict(sorted({**entries, **gone}.items())), surveys


def _unchanged(known: Mapping[str, FileEntry], file: FileState, reading: str) -> bool:
    entry = known.get(file.path)
    if entry is None or entry.state == "gone":
        return False
    return entry.file == file and entry.format == reading


def _same_content(before: FileEntry, now: FileEntry) -> bool:
    """Tell whether what is known of a file still holds; an emptied entry knows nothing."""
    return (before.sha256, before.format, before.rows) == (now.sha256, now.format, now.rows)


def _vanished(entry: FileEntry) -> FileEntry:
    """Mark a file that is no longer there; a second copy leaves nothing behind."""
    if entry.state == "duplicate" and entry.duplicate_of is not None:
        return entry.emptied(entry.duplicate_of)
    return replace(entry, state="gone")


def _mark_duplicates(
    files: Mapping[str, FileEntry], known: Mapping[str, FileEntry]
) -> dict[str, FileEntry]:
    """Let one file of equal content count: the one that counted before, else the first by path.

    A vanished file whose bytes are still there under another name was only renamed: its heir
    takes over what is known of its rows, and no day changes.
    """
    counted = [path for path, entry in known.items() if entry.state == "read"]
    owner: dict[str, str] = {}
    for path in [*counted, *files]:
        if files[path].state != "gone":
            owner.setdefault(files[path].sha256, path)
    result = dict(files)
    for path, entry in files.items():
        first = owner.get(entry.sha256, path)
        if first != path:
            result[path] = _step_back(entry, first)
        elif entry.state == "duplicate":  # the copy that counted has changed or gone
            result[path] = replace(entry, state="read", duplicate_of=None)
    for entry in files.values():
        heir = owner.get(entry.sha256)
        if entry.state == "gone" and entry.days and heir is not None:
            result[heir] = _inherit(result[heir], entry)
    return result


def _step_back(entry: FileEntry, owner: str) -> FileEntry:
    """Return the entry of a file whose bytes count under the name ``owner``."""
    if entry.state == "gone":
        return entry.emptied(owner)
    return replace(entry, state="duplicate", duplicate_of=owner)


def _inherit(heir: FileEntry, gone: FileEntry) -> FileEntry:
    """Take over what is known of the rows, unless they are read in another way by now."""
    return replace(gone, file=heir.file, state="read") if heir.format == gone.format else heir


def _check_level_types(form: EventFormat, entries: Iterable[FileEntry]) -> None:
    first: FileEntry | None = None
    for entry in entries:
        first = first or entry
        if entry.level_types != first.level_types:
            raise EventsError(
                f"levels {list(form.levels)} are {list(entry.level_types)}",
                where={"file": full_path(form.root, entry.path)},
                expected=f"{list(first.level_types)} as in {full_path(form.root, first.path)}",
                remedy="write ids with one type everywhere: '007' and 7 are different stores",
            )
