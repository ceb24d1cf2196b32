"""The report: saved runs as a page, as Markdown, as pictures and as LaTeX. Reads records only, never TensorFlow."""
