"""The rival of another kind: a transformer of the makemore script's size, on the split of the lectures.

    OMP_NUM_THREADS=1 python scripts/study_transformer.py [--dropout 0.1] [--epochs 30]

Four layers of four heads, width 64, about 200,000 parameters, as the makemore script has by default, trained
with AdamW and one cycle of the learning rate. It reads the whole name so far; NLL of dev and test in nats per
character, the name's end included, as everywhere here.
"""

import argparse
import math

import torch
from torch import Tensor, nn

from makemore_pl.data.datamodule import NamesDataModule
from makemore_pl.model.schedule import one_cycle

IGNORED = -100
"""The target after a name's end, which `cross_entropy` leaves out."""


class Transformer(nn.Module):
    """A decoder: the logits at each place depend on that place and those before it.

    Args:
        vocab_size: V.
        longest: T, places.
        width: C.
        n_layers: of attention and MLP.
        n_heads: in each layer.
        dropout: share of values set to 0 in training.
    """

    def __init__(
        self, vocab_size: int, longest: int, width: int, n_layers: int, n_heads: int, dropout: float
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width)
        self.places = nn.Embedding(longest, width)
        layer = nn.TransformerEncoderLayer(
            width, n_heads, 4 * width, dropout, "gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, n_layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.output = nn.Linear(width, vocab_size, bias=False)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, ids: Tensor) -> Tensor:
        """ids int64 (B, T) -> logits (B, T, V)."""
        length = ids.shape[1]
        x = self.embedding(ids) + self.places.weight[:length]  # (B, T) -> (B, T, C)
        mask = nn.Transformer.generate_square_subsequent_mask(length)
        logits: Tensor = self.output(self.layers(x, mask=mask, is_causal=True))  # (B, T, C) -> (B, T, V)
        return logits


def rows(data: NamesDataModule, split: str, longest: int) -> tuple[Tensor, Tensor]:
    """Ids int64 (n, T), a boundary first; and the ids after each, `IGNORED` past the end, int64 (n, T)."""
    names = [torch.from_numpy(data.vocabulary.encode(name)) for name in data.corpus.names(split)]
    ids = torch.zeros((len(names), longest), dtype=torch.int64)
    targets = torch.full_like(ids, IGNORED)
    for i, name in enumerate(names):
        ids[i, 1 : len(name) + 1] = name
        targets[i, : len(name)] = name
        targets[i, len(name)] = 0
    return ids, targets


@torch.inference_mode()
def evaluate(model: Transformer, examples: tuple[Tensor, Tensor]) -> float:
    """NLL in nats per character."""
    model.eval()
    total = 0.0
    for ids, targets in zip(*(torch.split(x, 1_000) for x in examples), strict=True):
        total += float(_nll(model(ids), targets, "sum"))
    model.train()
    return total / int((examples[1] != IGNORED).sum())


def _nll(logits: Tensor, targets: Tensor, reduction: str) -> Tensor:
    return nn.functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction=reduction
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch_size", type=int, default=128, help="names")
    parser.add_argument("--lr", type=float, default=2e-3, help="highest learning rate")
    parser.add_argument("--weight_decay", type=float, default=0.1)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)

    data = NamesDataModule("makemore", dedupe=False)
    longest = max(map(len, data.list.names())) + 1
    train, dev, test = (rows(data, split, longest) for split in ("train", "dev", "test"))
    model = Transformer(data.vocab_size, longest, 64, 4, 4, args.dropout)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    optimizer = torch.optim.AdamW(
        model.parameters(), args.lr, betas=(0.9, 0.99), weight_decay=args.weight_decay, fused=True
    )
    steps = args.epochs * math.ceil(len(train[0]) / args.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: one_cycle(step / steps, 0.1))
    best = math.inf, math.inf
    for epoch in range(1, args.epochs + 1):
        for batch in torch.split(torch.randperm(len(train[0])), args.batch_size):
            longest_here = int((train[1][batch] != IGNORED).sum(dim=1).max())
            loss = _nll(model(train[0][batch, :longest_here]), train[1][batch, :longest_here], "mean")
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        nll = evaluate(model, dev)
        print(f"epoch {epoch}: dev {nll:.4f}", flush=True)
        if nll < best[0]:
            best = nll, evaluate(model, test)
    print(f"best dev {best[0]:.4f}, its test {best[1]:.4f}")


if __name__ == "__main__":
    main()
