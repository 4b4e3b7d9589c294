"""The tables of a spec as torchrec EmbeddingBagCollections."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torchrec.modules.embedding_configs import EmbeddingBagConfig, PoolingType
from torchrec.modules.embedding_modules import EmbeddingBagCollection
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor, KeyedTensor

from recsys_mtl.batches.batch import Batch
from recsys_mtl.batches.quiet import silence_torchrec
from recsys_mtl.embeddings.embedded import Embedded, EmbeddedSequence
from recsys_mtl.embeddings.initial import table_init
from recsys_mtl.embeddings.joint import (
    Slots,
    bag_slots,
    join,
    mean_of,
    part,
    pool,
    sequence_mask,
)
from recsys_mtl.spec.layout import Layout, SequenceInput


class Embeddings(nn.Module):
    """Look-up of all features and sequences; a table is held once, whatever reads it.

    `bags` holds the tables that no sequence reads, one key per feature. `sequence_bags`
    holds the others, one key per table (see `joint.py`); an id feature on such a table and
    the sequences that read it train the same rows. Both pool by sum, means divide above.

    The same module serves unsharded and trains after `shard`, which replaces both
    collections in place. Unsharded tables would get dense gradients; never train them.

    Args:
        layout: tables, bags and sequences.
        seed: of the initial weights.
        device: of the weights; `meta` when `shard` or `load_plain_state` provides them.
    """

    def __init__(self, layout: Layout, seed: int = 0, device: torch.device | None = None) -> None:
        super().__init__()
        silence_torchrec()
        self.layout = layout
        self.seed = seed
        self.output_hook: Callable[[Tensor], None] | None = None
        """Called with the output of each collection, float32[stride, sum of E], before any
        operation on it, when it takes part in autograd."""
        plain, joint = layout.bags[: layout.num_plain_bags], layout.bags[layout.num_plain_bags :]
        self._plain, self._joint = plain, joint
        features: dict[str, list[str]] = {}
        for bag in plain:
            features.setdefault(bag.table, []).append(bag.name)
        self._plain_keys = [name for names in features.values() for name in names]
        self.bags = self._collection(features, device)
        self.sequence_bags = self._collection({t: [t] for t in layout.sequence_tables}, device)

    def forward(self, batch: Batch) -> Embedded:
        """Look up one batch.

        Returns:
            Pooled bags in the order of `layout.bags`, sequences left-padded to the longest
            of the batch.
        """
        values, lengths = _per_key(batch.bags)
        pooled = self._look_up_plain(batch, lengths)
        shared, sequences = self._look_up_joint(batch, values, lengths)
        bags = pooled | shared
        return Embedded(
            {bag.name: bags[bag.name] for bag in self.layout.bags}, batch.dense, sequences
        )

    def _collection(
        self, features: dict[str, list[str]], device: torch.device | None
    ) -> EmbeddingBagCollection | None:
        configs = [
            EmbeddingBagConfig(
                name=table,
                embedding_dim=self.layout.tables[table].dim,
                num_embeddings=self.layout.tables[table].num_embeddings,
                feature_names=names,
                pooling=PoolingType.SUM,
                init_fn=table_init(table, self.seed),
            )
            for table, names in features.items()
        ]
        return EmbeddingBagCollection(configs, device=device) if configs else None

    def _look_up_plain(self, batch: Batch, lengths: Sequence[Tensor]) -> dict[str, Tensor]:
        if self.bags is None or batch.bags is None:
            return {}
        kjt = batch.bags
        if self._joint:
            kjt = kjt.split([len(self._plain), len(self._joint)])[0]
        values = self._ordered(self.bags(kjt), self._plain_keys)
        widths = {bag.name: self.layout.tables[bag.table].dim for bag in self._plain}
        parts = torch.split(values, [widths[name] for name in self._plain_keys], dim=1)
        pooled = dict(zip(self._plain_keys, parts, strict=True))
        for bag, length in zip(self._plain, lengths, strict=False):
            if bag.is_list and bag.pooling == "mean":
                pooled[bag.name] = mean_of(pooled[bag.name], length)
        return pooled

    def _look_up_joint(
        self, batch: Batch, values: Sequence[Tensor], lengths: Sequence[Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, EmbeddedSequence]]:
        if self.sequence_bags is None:
            return {}, {}
        if not self._joint and not any(len(kjt.values()) for kjt in batch.sequences.values()):
            # Rows of a source without sequences: the look-up would cost an eighth of their step.
            return {}, {s.name: self._no_events(s, batch.dense) for s in self.layout.sequences}
        slots: dict[str, list[Slots]] = {table: [] for table in self.layout.sequence_tables}
        for bag, ids in zip(self._joint, values[len(self._plain) :], strict=True):
            slots[bag.table].append(bag_slots(ids))
        masks: dict[str, Tensor] = {}
        for sequence in self.layout.sequences:
            field_ids, field_lengths = _per_key(batch.sequences[sequence.name])
            mask = masks[sequence.name] = sequence_mask(field_lengths[0])
            filled = mask.reshape(-1).int()
            for table, ids in zip(sequence.fields.values(), field_ids, strict=True):
                slots[table].append(Slots(ids, filled))
        keys = list(slots)
        looked_up = self._ordered(self.sequence_bags(join(slots)), keys)
        blocks = part(looked_up, [self.layout.tables[t].dim for t in keys], slots)
        by_table = {key: iter(table_blocks) for key, table_blocks in zip(keys, blocks, strict=True)}
        pooled = {
            bag.name: pool(next(by_table[bag.table]), bag, length)
            for bag, length in zip(self._joint, lengths[len(self._plain) :], strict=True)
        }
        # Blocks come back in the order in which they were appended above.
        return pooled, {
            s.name: EmbeddedSequence(
                {
                    field: next(by_table[table]).view(*masks[s.name].shape, -1)
                    for field, table in s.fields.items()
                },
                masks[s.name],
            )
            for s in self.layout.sequences
        }

    def _no_events(self, sequence: SequenceInput, like: Tensor) -> EmbeddedSequence:
        """What the look-up gives where no row has an event."""
        dims = {field: self.layout.tables[table].dim for field, table in sequence.fields.items()}
        fields = {field: like.new_zeros(len(like), 1, dim) for field, dim in dims.items()}
        return EmbeddedSequence(fields, like.new_zeros((len(like), 1), dtype=torch.bool))

    def _ordered(self, output: KeyedTensor, keys: list[str]) -> Tensor:
        """Columns in the order of `keys`; that of a sharded collection depends on its plan."""
        values: Tensor = output.values()
        if self.output_hook is not None and values.requires_grad:
            self.output_hook(values)
        if output.keys() == keys:
            return values
        regrouped: Tensor = KeyedTensor.regroup([output], [keys])[0]
        return regrouped


def _per_key(kjt: KeyedJaggedTensor | None) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Values int64[N_k] and lengths int32[B] of each key."""
    if kjt is None:
        return (), ()
    lengths = kjt.lengths().view(len(kjt.keys()), kjt.stride())
    return kjt.values().split(kjt.length_per_key()), lengths.unbind()
