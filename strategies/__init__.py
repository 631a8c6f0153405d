"""The decoding methods, one file each; installed as `ovdecode.strategies`."""

assert __name__ == "ovdecode.strategies", "import ovdecode.strategies, not strategies"
