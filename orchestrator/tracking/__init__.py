"""What happens is kept in a journal and shown by MLflow; nothing here decides anything."""
