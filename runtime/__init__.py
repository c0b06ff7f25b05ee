"""Host agents on an engine: the top floor, and what people import."""
