"""A table of a page in docs/ that a test run writes and checks: what the rigs see is what the page says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
_BEGIN = "<!-- begin: written by scripts/module-table -->\n"
_END = "<!-- end -->\n"


@dataclass(frozen=True)
class PageTable:
    """The one such table of a page.

    Attributes:
        page: the file's name.
        subject: what a row is about.
        columns: what is said of it.
    """

    page: str
    subject: str
    columns: Sequence[str]

    def render(self, rows: Mapping[str, Mapping[str, str]]) -> str:
        """The table in Markdown.

        Args:
            rows: subject -> column -> word.
        """
        lines = [f"| {self.subject} | {' | '.join(self.columns)} |", "|---" * (len(self.columns) + 1) + "|"]
        lines += [f"| {name} | {' | '.join(row[column] for column in self.columns)} |" for name, row in rows.items()]
        return "\n".join(lines) + "\n"

    def committed(self) -> str:
        """The table as the page has it; empty where there is no page."""
        path = DOCS / self.page
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        return text.partition(_BEGIN)[2].partition(_END)[0]

    def check(self, rows: Mapping[str, Mapping[str, str]], *, write: bool) -> None:
        """Compare the page with what was seen.

        Args:
            rows: as for `render`.
            write: put the table into the page first.
        """
        table = self.render(rows)
        if write:
            self._write(table)
        assert self.committed() == table, "the table has changed: look at it, and run scripts/module-table"

    def _write(self, table: str) -> None:
        path = DOCS / self.page
        before, begin, rest = path.read_text(encoding="utf-8").partition(_BEGIN)
        _, end, after = rest.partition(_END)
        assert begin, f"{path} has no line {_BEGIN}"
        assert end, f"{path} has no line {_END}"
        path.write_text(before + begin + table + end + after, encoding="utf-8")
