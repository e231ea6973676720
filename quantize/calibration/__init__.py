"""Text on which the converter sees what a model's activations look like: prose in fourteen languages, code, mathematics
and conversations, written for this purpose or made from a seed."""

from qwen35_local.quantize.calibration.documents import Conversation, Document, Part, documents
from qwen35_local.quantize.calibration.windows import windows

__all__ = ["Conversation", "Document", "Part", "documents", "windows"]
