"""What tools/heal.py is made of: `text` (documents and batches), `model` (load, choose, export), `trainer`."""
