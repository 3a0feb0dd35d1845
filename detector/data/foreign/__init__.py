"""Other tools' annotations: one module a family of formats, each a reader and a writer of `Sheet`s."""
