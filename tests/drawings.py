"""What a figure shows: its words, its legend, and whether anything sticks out."""

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.legend import Legend
from matplotlib.text import Text


def words(figure):
    """Every text of a figure that is drawn, its legends included."""
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def legend(figure):
    return [text.get_text() for box in figure.findobj(Legend) for text in box.get_texts()]


def overhang(figure):
    """By how many inches something sticks out of the figure (negative: nothing does)."""
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    return max(-box.x0, -box.y0, box.x1 - width, box.y1 - height)
