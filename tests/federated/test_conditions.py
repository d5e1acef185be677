"""How clients differ, and what of it depends on the others."""

from prunus.federated.conditions import Conditions


def test_a_client_that_joins_late_changes_nothing_about_the_others(recipe):
    table = recipe(clients={"speeds": [1.0, 0.1], "bandwidths": [1.0, 0.5, 0.2]}).clients
    conditions = Conditions(table, {f"node{k}": 10 for k in range(8)}, seed=0)
    before = {name: conditions.profile(name) for name in conditions.samples}
    assert len(set(before.values())) > 2
    conditions.samples["a first name"] = 10
    assert {name: conditions.profile(name) for name in before} == before
    assert {n: Conditions(table, {}, seed=1).profile(n) for n in before} != before
