"""Documents as one stream of tokens with the loss weight of each."""

import random

import numpy as np
import torch

from demo.text import Difficulty, document
from demo.tokenizer import END


def weighted_tokens(tokenizer, pieces):
    """(ids, weights) of a document; a token weighs as the piece its last character lies in."""
    text = "".join(piece for piece, _ in pieces)
    weight = np.repeat([w for _, w in pieces], [len(piece) for piece, _ in pieces])
    encoding = tokenizer.encode(text, add_special_tokens=False)
    return encoding.ids, [weight[end - 1] for _, end in encoding.offsets]


class Stream:
    """Documents laid end to end, each opened by END; a row begins where a document does."""

    def __init__(self, tokenizer, seed, tokens, shares, difficulty=Difficulty()):
        rng = random.Random(seed)
        end = tokenizer.token_to_id(END)
        ids, weights, self.starts = [], [], []
        while len(ids) < tokens:
            doc_ids, doc_weights = weighted_tokens(tokenizer, document(rng, shares, difficulty))
            self.starts.append(len(ids))
            ids += [end] + doc_ids
            weights += [1.0] + doc_weights
        self.ids = torch.tensor(ids)
        self.weights = torch.tensor(weights, dtype=torch.float32)

    def batch(self, rng, rows, tokens):
        """inputs, targets, weights: [rows, tokens] each."""
        last = len(self.ids) - tokens - 1
        at = []
        while len(at) < rows:
            start = rng.choice(self.starts)
            if start <= last:
                at.append(start)
        index = torch.tensor(at)[:, None] + torch.arange(tokens + 1)
        ids = self.ids[index]
        return ids[:, :-1], ids[:, 1:], self.weights[index[:, 1:]]
