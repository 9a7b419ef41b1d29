"""Text from outside, made harmless before it is shown, counted or stored."""

import re
from typing import Final

FORMULA: Final = r"^[=+\-@\t\r\n\uFF1D\uFF0B\uFF0D\uFF20]"
"""How a cell begins that spreadsheets take for a formula; some know wide signs, too."""


def printable(text: str, most: int = 200) -> str:
    r"""One line of printable characters: what is none is escaped, what is too long is cut.

    Args:
        text: from a packet, a file's name, a broker, an exception.
        most: characters to keep.

    Example:
        >>> printable("ZTF18a\x1b[2J\nsecond line")
        'ZTF18a\\x1b[2J\\nsecond line'
        >>> printable("a" * 300, most=5)
        'aaaa…'
    """
    text = text[: most + 1]  # escapes of what is cut anyway would take long
    if not text.isprintable():
        text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def spreadsheet_safe(cell: str) -> str:
    r"""A text as a cell of a CSV file: what would begin a formula gets an apostrophe before it.

    Example:
        >>> spreadsheet_safe('=HYPERLINK("http://example.org")'), spreadsheet_safe("ZTF20aaelulu")
        ('\'=HYPERLINK("http://example.org")', 'ZTF20aaelulu')
    """
    return f"'{cell}" if re.match(FORMULA, cell) else cell
