"""Charts of tracked values without a display and without a library: as text, or as a PNG file."""

from onbox.draw.png import png_chart
from onbox.draw.text import text_chart

__all__ = ["png_chart", "text_chart"]
