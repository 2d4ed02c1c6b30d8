"""The plots of the page, one module each, drawn by matplotlib as SVG in the page's colours."""
