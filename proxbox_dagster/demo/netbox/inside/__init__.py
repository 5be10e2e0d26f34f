"""Scripts that run inside NetBox's virtual environment, never in the project's own."""
