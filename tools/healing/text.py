"""Texts as documents, documents as batches."""

import random
from pathlib import Path

import torch

from healing.model import fail

IGNORED = -100  # label of a position that no loss is taken at


def read_documents(tokenizer, paths):
    """Lists of token ids: what the tokenizer puts before a text, the document, the end token."""
    end, documents = tokenizer.eos_token_id, []
    if end is None:
        fail("the tokenizer names no eos_token to end documents with")
    opening = tokenizer("").input_ids
    for path in paths:
        try:
            text = Path(path).read_text()
        except (OSError, UnicodeDecodeError) as error:
            fail(f"{path}: {error}")
        for document in filter(None, text.split(tokenizer.eos_token)):
            documents.append([*opening, *tokenizer(document, add_special_tokens=False).input_ids, end])
    if not documents:
        fail(f"{', '.join(map(str, paths))}: no documents")
    return documents


def first_tokens(documents, tokens):
    """As many whole documents from the start as bring at least so many tokens."""
    count = total = 0
    while count < len(documents) and total < tokens:
        total += len(documents[count])
        count += 1
    return documents[:count]


def pack(documents, row_tokens):
    """Yields rows, each a list of documents that fit into it together. A document longer than a row is cut into
    pieces that overlap by one token, so that each of its tokens is predicted once."""
    row, room = [], row_tokens
    for document in documents:
        for first in range(0, len(document) - 1, row_tokens - 1):
            piece = document[first : first + row_tokens]
            if len(piece) > room:
                yield row
                row, room = [], row_tokens
            row.append(piece)
            room -= len(piece)
    if row:
        yield row


def to_batch(rows, row_tokens, device):
    """(ids, positions, labels), [rows, row_tokens] each. Positions start anew with each document, by which transformers
    tells them apart; labels[i] is the token to predict at i, IGNORED at the end of a document and behind all."""
    batch = torch.zeros(3, len(rows), row_tokens, dtype=torch.long)
    batch[2] = IGNORED
    for i, row in enumerate(rows):
        at = 0
        for document in row:
            end = at + len(document)
            batch[0, i, at:end] = torch.tensor(document)
            batch[1, i, at:end] = torch.arange(len(document))
            batch[2, i, at : end - 1] = torch.tensor(document[1:])
            at = end
        batch[1, i, at:] = torch.arange(row_tokens - at)
    return batch.to(device)


class Batches:
    """Rows of all documents in an order drawn anew for each pass; batch n is the same in every run of a seed."""

    def __init__(self, documents, args):
        self.documents, self.args, self.passes = documents, args, 0
        self.rows = iter(())

    def __next__(self):
        rows = []
        while len(rows) < self.args.rows:
            row = next(self.rows, None)
            if row is None:
                order = list(self.documents)
                random.Random(f"{self.args.seed} {self.passes}").shuffle(order)
                self.rows, self.passes = pack(order, self.args.row_tokens), self.passes + 1
            else:
                rows.append(row)
        return rows
