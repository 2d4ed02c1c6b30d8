"""The page's plots, one module each, drawn by matplotlib as SVG in the colours of the page."""
