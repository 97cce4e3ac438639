"""Photos of files, folders, uploads and requests: checked, decoded, encoded."""
