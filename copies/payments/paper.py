"""A PDF of one page or more: rows of names and values, texts, a QR. Only this module knows fpdf2.

The font has all letters of Kazakh, and no sign of the tenge: amounts have the currency's code.
"""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING

import fontpkg
import segno

if TYPE_CHECKING:
    from fpdf import FPDF

FONT = "PT Sans"
LEFT, WIDTH, LINE_MM, STAMP_MM = 20, 170, 6, 52


class Paper:
    """A PDF in the making."""

    def __init__(self, heading: str, made_ms: int):
        """`made_ms`: what the PDF says of when it was made, so that its bytes stay the same."""
        from fpdf import FPDF  # 40 MB, for those who write invoices

        self._pdf: FPDF = FPDF(format="A4")
        pdf = self._pdf
        pdf.set_title(heading)
        pdf.set_creation_date(datetime.fromtimestamp(made_ms / 1000, UTC))
        for style, weight in (("", 400), ("B", 700)):
            pdf.add_font(FONT, style, fontpkg.path(FONT, weight=weight))
        pdf.set_margins(LEFT, LEFT)
        pdf.add_page()
        pdf.set_font(FONT, "B", 20)
        pdf.multi_cell(WIDTH - STAMP_MM, 10, heading, align="L", new_x="LMARGIN", new_y="NEXT")
        pdf.set_font(FONT, "", 11)

    def stamp(self, text: str) -> None:
        """Put a short text into a frame beside the heading."""
        pdf, below = self._pdf, self._pdf.get_y()
        pdf.set_font(FONT, "B", 13)
        pdf.set_xy(LEFT + WIDTH - STAMP_MM, LEFT)
        pdf.set_line_width(0.8)
        pdf.cell(STAMP_MM, 10, text, border=1, align="C", new_x="LMARGIN", new_y="NEXT")
        pdf.set_line_width(0.2)
        pdf.set_y(max(below, pdf.get_y() + 2))
        pdf.set_font(FONT, "", 11)

    def text(self, text: str, after_mm: float = 2) -> None:
        """Write a paragraph, with room below it."""
        self._pdf.multi_cell(WIDTH, LINE_MM, text, align="L", new_x="LMARGIN", new_y="NEXT")
        self.space(after_mm)

    def row(
        self, name: str, value: str, *, width: float = WIDTH, sum_: bool = False, bold: bool = False
    ) -> None:
        """Write a name and its value on one page; `sum_`: the value is an amount, on the right."""
        pdf, split = self._pdf, width * (0.7 if sum_ else 0.42)
        pdf.set_font(FONT, "B" if bold else "", 11)
        cells = ((split, name), (width - split, value))
        self.keep_together(max(self._height_mm(*cell) for cell in cells))
        top = pdf.get_y()
        pdf.multi_cell(split, LINE_MM, name, align="L", new_x="LMARGIN", new_y="NEXT")
        below = pdf.get_y()
        pdf.set_xy(LEFT + split, top)
        align = "R" if sum_ else "L"
        pdf.multi_cell(width - split, LINE_MM, value, align=align, new_x="LMARGIN", new_y="NEXT")
        pdf.set_y(max(below, pdf.get_y()))
        pdf.set_font(FONT, "", 11)

    def _height_mm(self, width: float, text: str) -> float:
        lines = self._pdf.multi_cell(width, LINE_MM, text, dry_run=True, output="LINES")
        assert isinstance(lines, list)
        return LINE_MM * len(lines)

    def space(self, height_mm: float) -> None:
        """Leave room."""
        self._pdf.ln(height_mm)

    def keep_together(self, height_mm: float) -> None:
        """Begin a page unless this has so much room."""
        if self._pdf.will_page_break(height_mm):
            self._pdf.add_page()

    @property
    def at_mm(self) -> float:
        """Where on the page is written next."""
        return self._pdf.get_y()

    def go_below(self, at_mm: float) -> None:
        """Write on below a place of the page."""
        self._pdf.set_y(max(self._pdf.get_y(), at_mm))

    def qr(self, text: str, top_mm: float, size_mm: float) -> None:
        """Draw a QR of a text on the right, as bars a little too large: sharp at every size, and no
        seams between them."""
        pdf, matrix = self._pdf, segno.make(text, error="l", micro=False).matrix
        pdf.set_fill_color(0, 0, 0)
        side, left = size_mm / len(matrix), LEFT + WIDTH - size_mm
        for n, row in enumerate(matrix):
            m = 0
            for dark, run in groupby(row):
                length = len(list(run))
                if dark:
                    more = side / 20
                    x, y = left + m * side, top_mm + n * side
                    pdf.rect(x, y, length * side + more, side + more, "F")
                m += length

    def done(self) -> bytes:
        """Return the PDF."""
        return bytes(self._pdf.output())
