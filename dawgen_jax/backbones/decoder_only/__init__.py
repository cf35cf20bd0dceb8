"""Decoder-only models: Llama, Qwen2 and Qwen3 by the flags of one configuration."""
