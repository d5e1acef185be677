"""The LSTM language models of the Penn Treebank."""

from typing import Literal

from torch import Tensor, nn

# Hidden units, dropout, and the range of the initial weights.
_SIZES = {"small": (200, 0.0, 0.1), "medium": (650, 0.5, 0.05), "large": (1500, 0.65, 0.04)}

Size = Literal["small", "medium", "large"]


class PtbLstm(nn.Module):
    """Word embeddings, two LSTM layers and a softmax layer, all of one width.

    With 10,000 words small / medium / large have 4.65 / 19.78 / 66.02 M parameters, and 1,600 /
    5,200 / 12,000 more in the second bias that PyTorch gives each gate. The layers are modules of
    their own, so that pruning may leave them different widths. The state is zero at the first word
    of every input.

    Source: Zaremba, Sutskever and Vinyals, 2014, arXiv:1409.2329, section 4.1; small is that of
    their code. Deviation: they carry the state from one window of words to the next.

    Args:
        size: "small", "medium" or "large": 200, 650 or 1500 units; dropout 0, 0.5 or 0.65 on all
            but the recurrent connections.
        words: Size of the vocabulary.

    Raises:
        ValueError: There is no such size.
    """

    def __init__(self, size: Size = "medium", words: int = 10_000) -> None:
        super().__init__()
        if size not in _SIZES:
            raise ValueError(f"size must be one of {', '.join(_SIZES)}, got {size!r}.")
        units, dropout, spread = _SIZES[size]
        self.embedding = nn.Embedding(words, units)
        self.lstm1 = nn.LSTM(units, units, batch_first=True)
        self.lstm2 = nn.LSTM(units, units, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.softmax = nn.Linear(units, words)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -spread, spread)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map words (batch, time), int64, to logits of the next ones, (batch, words, time)."""
        x = self.dropout(self.embedding(tokens))
        x = self.dropout(self.lstm1(x)[0])
        x = self.dropout(self.lstm2(x)[0])
        logits: Tensor = self.softmax(x)
        return logits.transpose(1, 2)
