"""The table of what happened: each row says what was promised, what was seen, and whether the two are the same."""

from dataclasses import dataclass, fields
from textwrap import wrap

COLUMNS = (
    ("case", 27),
    ("HTTP answers", 26),
    ("status", 22),
    ("signals (invoice_ left out)", 31),
    ("order", 13),
    ("as promised", 11),
)
GAP = "  "
WIDTH = sum(width for _, width in COLUMNS) + len(GAP) * (len(COLUMNS) - 1)


@dataclass(frozen=True)
class Facts:
    """What can be seen of an order from outside, in the words of the table."""

    http: str
    status: str
    signals: str
    order: str

    def differences(self, promised):
        """``["status is 'expired', promised was 'paid'", ...]``; empty when everything is as promised."""
        pairs = [(field.name, getattr(self, field.name), getattr(promised, field.name)) for field in fields(self)]
        return [f"{name} is {seen!r}, promised was {wanted!r}" for name, seen, wanted in pairs if seen != wanted]


@dataclass(frozen=True)
class Line:
    """What was promised of a case and what was seen; ``trouble`` is why the story of the case broke off."""

    case: str
    promised: Facts
    seen: Facts
    trouble: str = ""

    @property
    def complaints(self):
        return ([self.trouble] if self.trouble else []) + self.seen.differences(self.promised)


@dataclass(frozen=True)
class NotOffered:
    """Something that the gateway does not do, and the source that says so or is silent where it would have to say it."""

    case: str
    source: str


@dataclass(frozen=True)
class Group:
    """One gateway's ``Line`` and ``NotOffered`` rows."""

    title: str
    lines: list


def render(groups):
    """The table as text, no line longer than 140 characters."""
    shown = _row(name for name, _ in COLUMNS)
    for group in groups:
        shown += [f"--- {group.title} ".ljust(WIDTH, "-")]
        for line in group.lines:
            shown += [*_not_offered(line), ""] if isinstance(line, NotOffered) else [*_line(line), ""]
    return "\n".join(shown)


def _line(line):
    seen = line.seen
    shown = _row([line.case, seen.http, seen.status, seen.signals, seen.order, "NO" if line.complaints else "yes"])
    for complaint in line.complaints:
        shown += wrap(f"NOT AS PROMISED: {complaint}", WIDTH, initial_indent="  ", subsequent_indent="    ")
    return shown


def _not_offered(line):
    first = COLUMNS[0][1]
    return _columns((line.case, f"not offered: {line.source}"), (first, WIDTH - first - len(GAP)))


def verdict(groups):
    """``(text, whether all is as promised)``."""
    judged = [line for group in groups for line in group.lines if isinstance(line, Line)]
    good = sum(not line.complaints for line in judged)
    return f"{good} of {len(judged)} cases are as promised.", bool(judged) and good == len(judged)


def _row(texts):
    return _columns(texts, [width for _, width in COLUMNS])


def _columns(texts, widths):
    """Texts wrapped side by side, as lines."""
    cells = [wrap(text, width) for text, width in zip(texts, widths, strict=True)]
    height = max(map(len, cells))
    padded = [cell + [""] * (height - len(cell)) for cell in cells]
    return [
        GAP.join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in zip(*padded, strict=True)
    ]
