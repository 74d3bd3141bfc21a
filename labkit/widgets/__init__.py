"""Columns become pictures: Bokeh draws two figures, plain HTML is around them, and the browser plays."""
