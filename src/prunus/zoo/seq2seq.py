"""An LSTM translator with attention."""

import torch
from torch import Tensor, nn


class Seq2Seq(nn.Module):
    """Two LSTM layers that read, two that write, and attention between them.

    A writing position looks at all that was read, weighted by the softmax of the products of their
    states, and its word is predicted from tanh(W [seen; state]). The readers run from left to right
    only, so that padding behind a sentence changes nothing.

    Source: Luong, Pham and Manning, EMNLP 2015, arXiv:1508.04025, sections 3 and 3.1 ("general").
    Deviations: the writer starts from a zero state, and what was seen at one word is not fed into
    the next, so that all words of the known translation are processed at once.

    Args:
        source_words: Size of the vocabulary that is read; word 0 is padding.
        target_words: Size of the vocabulary that is written; word 0 is padding.
        embedding: Width of the word vectors.
        units: Of every LSTM layer.
        dropout: On all but the recurrent connections.
    """

    def __init__(
        self,
        source_words: int = 10_000,
        target_words: int = 10_000,
        embedding: int = 256,
        units: int = 512,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.source_embedding = nn.Embedding(source_words, embedding, padding_idx=0)
        self.reader1 = nn.LSTM(embedding, units, batch_first=True)
        self.reader2 = nn.LSTM(units, units, batch_first=True)
        self.target_embedding = nn.Embedding(target_words, embedding, padding_idx=0)
        self.writer1 = nn.LSTM(embedding, units, batch_first=True)
        self.writer2 = nn.LSTM(units, units, batch_first=True)
        self.attention = nn.Linear(units, units, bias=False)
        self.combine = nn.Linear(2 * units, units, bias=False)
        self.softmax = nn.Linear(units, target_words)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Predict each next word of a translation from those before it.

        Args:
            source: Words read, int64 (batch, length), at least one that is not 0 in each row.
            target: Words written so far, int64 (batch, time).

        Returns:
            Logits (batch, target_words, time).
        """
        seen = self.dropout(self.source_embedding(source))
        seen = self.reader2(self.dropout(self.reader1(seen)[0]))[0]
        state = self.dropout(self.target_embedding(target))
        state = self.writer2(self.dropout(self.writer1(state)[0]))[0]
        weights = state @ self.attention(seen).transpose(1, 2)
        weights = weights.masked_fill((source == 0).unsqueeze(1), float("-inf"))
        context = torch.softmax(weights, dim=2) @ seen
        x = torch.tanh(self.combine(torch.cat([context, state], dim=2)))
        logits: Tensor = self.softmax(self.dropout(x))
        return logits.transpose(1, 2)
