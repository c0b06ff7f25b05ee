"""Files: the ground floor. Knows nothing of models, tokens, HTTP or processes of an engine."""
