"""The demo models: generator of their text, tokenizer, training, export and a PyTorch reference."""
