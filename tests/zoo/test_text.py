"""Words and characters: windows, vocabularies, translations, and a few steps that learn."""

import gzip
from zipfile import ZipFile

import pytest
import torch

from prunus import Target, prune, zoo
from prunus.errors import DataError
from prunus.training import TrainSettings, evaluate, fit
from prunus.zoo.shakespeare import read_roles
from prunus.zoo.tokens import TokenStream
from prunus.zoo.translation import TranslationData, Vocabulary, words


def stream(tokens=23, test=11, **options):
    parts = {"train": torch.arange(1, tokens + 1), "test": torch.arange(50, 50 + test)}
    return TokenStream("numbers", parts, 100, **{"batch_size": 2, "steps": 4} | options)


def test_training_windows_are_contiguous_pieces():
    # 23 tokens are two pieces of 11, and one left over; 10 predictions of each in windows of 4.
    data = stream()
    batches = list(data.train_batches(0))
    assert data.steps_per_epoch == len(batches) == 3
    assert batches[0][0].tolist() == [[1, 2, 3, 4], [12, 13, 14, 15]]
    assert batches[0][1].tolist() == [[2, 3, 4, 5], [13, 14, 15, 16]]
    assert batches[2][0].tolist() == [[9, 10], [20, 21]]
    assert batches[2][1].tolist() == [[10, 11], [21, 22]]
    for epoch, start in ((0, 1), (5, 2)):
        again = list(data.train_batches(epoch, start))
        assert all(torch.equal(a, b) for a, b in zip(again[0], batches[start], strict=True))


def test_evaluation_predicts_every_token_once_with_context():
    (first, wanted), (second, rest) = stream().eval_batches("test")
    assert first.tolist() == [[0, 0, 0, 0, 0, 50, 51, 52], [0, 50, 51, 52, 53, 54, 55, 56]]
    assert wanted[:, :4].unique().tolist() == [-100]
    assert wanted[:, 4:].tolist() == [[50, 51, 52, 53], [54, 55, 56, 57]]
    assert second[0].tolist() == [53, 54, 55, 56, 57, 58, 59, 0]
    assert rest[0].tolist() == [-100] * 4 + [58, 59, 60, -100]
    assert list(stream().eval_batches("val")) == []
    assert evaluate(zoo.network("ptb_lstm", size="small", words=100), stream()).count == 11


def test_text_too_short_is_refused():
    with pytest.raises(DataError, match="3 training tokens, too few for a batch_size of 2"):
        stream(tokens=3)
    with pytest.raises(ValueError, match="at least 1"):
        stream(steps=0)


def test_a_language_model_learns_a_repeated_sentence(tmp_path):
    (tmp_path / "ptb").mkdir()
    for split, count in (("train", 21), ("valid", 5), ("test", 5)):
        with gzip.open(tmp_path / "ptb" / f"ptb.{split}.txt.gz", "wt") as file:
            file.write(" the cat sat on the mat \n" * count)
    data = zoo.dataset("ptb", batch_size=4, root=tmp_path)
    assert (data.classes, data.metric, data.shape) == (6, "perplexity", (35,))
    assert next(data.train_batches(0))[0][0, :8].tolist() == [5, 1, 4, 3, 5, 2, 0, 5]
    torch.manual_seed(0)
    model = zoo.network("ptb_lstm", size="small", words=data.classes)
    assert evaluate(model, data).perplexity == pytest.approx(6, abs=0.5)
    settings = TrainSettings(length="12it", lr=0.02, optimizer="adam", clip_norm=5.0, keep="best")
    history = fit(model, data, settings)
    assert evaluate(model, data).perplexity < 3
    assert history.best["val_perplexity"] < 3
    small = prune(model.eval(), next(data.train_batches(0))[0][:1], target=Target(params=0.6)).model
    assert evaluate(small, data).count == evaluate(model, data).count == 35


def test_the_penn_treebank(real_data):
    data = zoo.dataset("ptb", batch_size=20, root=real_data)
    assert data.classes == 10_000
    # 929,589 words in twenty pieces of 46,479, of which all but the first are predicted.
    assert data.steps_per_epoch == 1328
    x, y = next(data.train_batches(0))
    assert x.shape == y.shape == (20, 35)
    for split, count in (("val", 73_760), ("test", 82_430)):
        assert sum(int((y != -100).sum()) for _, y in data.eval_batches(split)) == count


def test_words_and_vocabulary():
    assert words("Two men's T-shirts don't fit, Zürich!") == [
        *("two", "men's", "t-shirts", "don't", "fit", ",", "zürich", "!")
    ]
    vocabulary = Vocabulary.of(["b a b c", "a b d"])
    assert vocabulary.words == ("<pad>", "<unk>", "<s>", "</s>", "b", "a")
    assert vocabulary.encode(["A x b"])[0].tolist() == [5, 1, 4, 3]
    assert vocabulary.decode([5, 1, 4, 3, 4]) == "a <unk> b"


PAIRS = [("eins zwei", "one two"), ("zwei drei vier", "two three four"), ("drei", "three")]


def toy(count=30, **options):
    sources, targets = zip(*PAIRS * (count // 3), strict=True)
    parts = {split: (sources, targets) for split in ("train", "test")}
    return TranslationData("toy", parts, **{"batch_size": 4} | options)


def test_translation_batches():
    data = toy(seed=1)
    assert data.target.words[4:] == ("three", "two", "four", "one")
    (source, before), labels = next(data.eval_batches("test"))
    end, padding, none = 3, 0, -100
    assert data.source.decode(source[1].tolist()) == "zwei drei vier"
    assert before[:2].tolist() == [[2, 7, 5, padding], [2, 5, 4, 6]]
    assert labels[:2].tolist() == [[7, 5, end, none], [5, 4, 6, end]]

    batches = list(data.train_batches(3))
    assert len(batches) == data.steps_per_epoch == 8
    assert sum(int((y == end).sum()) for _, y in batches) == 30
    lengths = [{int((row != none).sum()) for row in y} for _, y in batches]
    assert max(map(len, lengths)) == 2, "a batch holds sentences of similar length"
    again = list(toy(seed=1).train_batches(3, start=2))
    assert torch.equal(again[0][1], batches[2][1])
    other = [y.shape for _, y in data.train_batches(4)]
    assert other != [y.shape for _, y in batches]


def test_a_translator_learns_three_sentences():
    data = toy(batch_size=10)
    torch.manual_seed(0)
    model = zoo.network(
        "seq2seq",
        source_words=len(data.source.words),
        target_words=data.classes,
        embedding=16,
        units=24,
        dropout=0.0,
    )
    before = evaluate(model, data)
    fit(model, data, TrainSettings(length="60it", lr=0.02, optimizer="adam"))
    after = evaluate(model, data)
    assert before.count == after.count == 90
    assert after.perplexity < 1.5 < before.perplexity
    model.train()
    assert zoo.translate(model, data)[:3] == [target for _, target in PAIRS]
    assert model.training


def test_bleu_is_sacrebleus():
    pytest.importorskip("sacrebleu")
    # Of 8, 7, 6 and 5 n-grams 7, 5, 3 and 1 are right: (7/8 * 5/7 * 3/6 * 1/5) ** (1/4) = 1/2.
    hypotheses = ["the quick brown fox jumps over the dog"]
    assert zoo.bleu(hypotheses, ["The quick brown fox leaps over the dog"]) == pytest.approx(50)
    assert zoo.bleu(["a man sits ."], ["A man sits."]) == pytest.approx(100)


def test_bleu_without_sacrebleu_says_what_to_do(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sacrebleu", None)
    with pytest.raises(ImportError, match=r"pip install 'prunus\[translation\]'"):
        zoo.bleu(["a"], ["a"])


@pytest.mark.slow
def test_multi30k(real_data):
    data = zoo.dataset("multi30k-de-en", batch_size=64, root=real_data)
    assert [len(data.pairs[split][0]) for split in ("train", "val", "test")] == [29_000, 1014, 1000]
    assert (len(data.source.words), data.classes, data.steps_per_epoch) == (7857, 5977, 454)
    (source, before), labels = next(data.train_batches(0))
    assert len(source) == len(before) == len(labels) == 64
    assert before.shape == labels.shape


def test_unequal_pairs_are_refused():
    with pytest.raises(DataError, match="got 2 and 1"):
        TranslationData("bad", {"train": (["a", "b"], ["a"])})


PLAY = (
    "\tTHE PLAY\n\nDUKE\ta duke.\n\nACT I\n\n\nSCENE I\tA room.\n\n\t[Enter DUKE and\n\tFOOL]\n\n"
    "DUKE\tGood morrow.\n\tSpeak!\n\nFOOL\tNo.\n\t[Exit]\n\nACT II\n\nSCENE I\tNowhere.\n\n"
    "DUKE\tO!\n"
)


def test_speaking_roles(tmp_path):
    with ZipFile(tmp_path / "shakespeare.zip", "w") as archive:
        archive.writestr("play.txt", PLAY)
        archive.writestr("sonnets.txt", "FROM fairest creatures\twe desire increase\n")
    assert read_roles(tmp_path) == {
        ("play", "DUKE"): "Good morrow.\nSpeak!\nO!\n",
        ("play", "FOOL"): "No.\n",
    }


@pytest.mark.slow
def test_shakespeare_by_role(real_data):
    whole = zoo.dataset("shakespeare", batch_size=20, root=real_data)
    assert (whole.classes, whole.shape) == (77, (80,))
    roles = zoo.clients("shakespeare", by="role", batch_size=4, root=real_data)
    assert len(roles) == 445
    hamlet = roles["hamlet/HAMLET"]
    assert hamlet.classes == 77
    x, y = next(hamlet.train_batches(0))
    assert x.shape == (4, 80)
    assert torch.equal(x[:, 1:], y[:, :-1])
