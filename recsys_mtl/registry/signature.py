"""What MLflow is told about a bundle's inputs and outputs."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow as pa

from recsys_mtl.artifacts.commit import read_table
from recsys_mtl.ingest.inputs import id_uses
from recsys_mtl.ingest.vectors import LISTS
from recsys_mtl.registry.bundle import Bundle
from recsys_mtl.registry.read_outs import read_outs
from recsys_mtl.spec.feature_spec import ASSIGN, NumberFeature, VectorFeature
from recsys_mtl.spec.layout import ROW_ID, TIME

if TYPE_CHECKING:
    from mlflow.models import ModelSignature
    from mlflow.types import DataType
    from mlflow.types.schema import AnyType, Array


def scored_columns(bundle: Bundle) -> tuple[str, ...]:
    """Assembled columns that a row to be scored must have, each once: keys first, no labels."""
    return tuple(dict.fromkeys(_scored_columns(bundle)))


def signature_of(bundle: Bundle) -> "ModelSignature":
    """Names of the assembled columns, types of the keys and strings; one double per output.

    Numbers and integer ids have no declared type: pandas turns a column with a missing value
    into floats, which MLflow would refuse although the transform reads them. The transform
    checks every type itself.
    """
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ColSpec, DataType, Schema

    golden = read_table(bundle.golden)
    keys = set(_keys(bundle))
    inputs = [
        ColSpec(_type_of(golden.schema.field(name).type, name in keys), name)
        for name in scored_columns(bundle)
    ]
    outputs = [ColSpec(DataType.double, name) for name in _outputs(bundle, golden)]
    return ModelSignature(Schema(inputs), Schema(outputs))


def _outputs(bundle: Bundle, golden: pa.Table) -> tuple[str, ...]:
    if bundle.layout.tasks:
        return bundle.layout.task_names
    table, _ = read_outs(bundle, bundle.encode(golden.slice(0, 1)))
    return tuple(name for name in table.column_names if name != "row_id")


def _keys(bundle: Bundle) -> Iterator[str]:
    keys = bundle.spec.sources[bundle.source].keys
    yield ROW_ID if keys.row_id == ASSIGN else keys.row_id
    yield from (keys.group,) if keys.group else ()
    yield TIME


def _scored_columns(bundle: Bundle) -> Iterator[str]:
    yield from _keys(bundle)
    survival = bundle.spec.sources[bundle.source].survival
    yield from (survival.entry,) if survival else ()
    yield from (use.column for use in id_uses(bundle.spec, bundle.source))
    for feature in bundle.spec.features_of(bundle.source):
        if isinstance(feature, NumberFeature | VectorFeature):
            yield feature.column or feature.name


def _type_of(kind: pa.DataType, is_key: bool) -> "DataType | Array | AnyType":
    from mlflow.types.schema import AnyType, Array, DataType

    if any(is_list(kind) for is_list in LISTS):
        return Array(AnyType())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return DataType.string
    return DataType.long if is_key and pa.types.is_integer(kind) else AnyType()
