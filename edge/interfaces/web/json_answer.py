"""Answers in JSON that may repeat what a client sent."""

from __future__ import annotations

import json
from typing import Any

from fastapi.responses import JSONResponse


class JsonAnswer(JSONResponse):
    """JSON in UTF-8, or in ASCII where it holds half a surrogate pair, which JSON can write and UTF-8 cannot."""

    def render(self, content: Any) -> bytes:
        """The body."""
        try:
            return super().render(content)
        except UnicodeEncodeError:
            return json.dumps(content, separators=(",", ":")).encode()
