"""All rules of the feature spec across fields; see `input_rules` and `label_rules`."""

from collections.abc import Callable, Iterator

from recsys_mtl.spec import input_rules, label_rules
from recsys_mtl.spec.view import Fault, View

RULES: tuple[Callable[[View], Iterator[Fault]], ...] = (
    input_rules.names_are_unique,
    input_rules.tables_exist_and_are_used,
    input_rules.references_exist,
    input_rules.joined_columns_name_a_side,
    input_rules.targets_share_the_table,
    input_rules.bucketize_has_its_table,
    input_rules.steps_are_sound,
    label_rules.inputs_do_not_leak,
    label_rules.sources_have_labels,
    label_rules.parents_form_chains,
    label_rules.split_is_ordered,
    label_rules.histories_have_one_feed,
    label_rules.event_logs_have_one_order,
)


def check_spec(view: View) -> list[Fault]:
    """All cross-field problems of a feature spec."""
    return [fault for rule in RULES for fault in rule(view)]
