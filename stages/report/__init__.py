"""The report page: score tables and alerts come in; one self-contained HTML file goes out."""
