"""Feature extractors, one file or family each: snippets come in; features go out, sparse or one vector a snippet."""
