"""Models and tokenizers: from what a user names to a checked model folder, and text to token ids and back."""

from ovdecode.models.folder import ModelFolder
from ovdecode.models.from_gguf import convert_gguf
from ovdecode.models.huggingface_tokenizer import HuggingFaceTokenizer
from ovdecode.models.openvino_tokenizer import OpenVINOTokenizer
from ovdecode.models.source import DEFAULT_MODEL, cache_folder, locate
from ovdecode.models.tokenizer import Tokenizer

__all__ = [
    "DEFAULT_MODEL",
    "HuggingFaceTokenizer",
    "ModelFolder",
    "OpenVINOTokenizer",
    "Tokenizer",
    "cache_folder",
    "convert_gguf",
    "locate",
]
