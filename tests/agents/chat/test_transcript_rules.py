"""What a client's transcript may change of the stored one."""

from __future__ import annotations

from typing import Any

import pytest

from agents.chat import transcript_rules as rules


def user(id: str, text: str = "hi") -> dict[str, Any]:
    return {"id": id, "role": "user", "parts": [{"type": "text", "text": text}]}


def assistant(id: str, *parts: dict[str, Any]) -> dict[str, Any]:
    return {"id": id, "role": "assistant", "parts": list(parts)}


def said(text: str, **fields: Any) -> dict[str, Any]:
    return {"type": "text", "text": text, **fields}


def call(id: str = "c", state: str = "input-available", **fields: Any) -> Any:
    part = {"type": "tool-t", "toolCallId": id, "state": state, "input": {"a": 1}}
    return {**part, **fields}


def test_only_messages_are_read_and_old_ones_are_turned_into_parts() -> None:
    good = user("1")
    old = {"id": "2", "role": "user", "content": "yo", "createdAt": "x"}
    bad: list[Any] = [
        None,
        {},
        {"id": "", "role": "user", "parts": []},
        {"id": "3", "role": "tool", "parts": []},
        {"id": "3", "role": "user", "parts": [1]},
        {"id": "3", "role": "user"},
    ]
    assert rules.readable([good, old, *bad]) == [
        good,
        {"id": "2", "role": "user", "parts": [said("yo")]},
    ]
    assert rules.readable("no list") == []


def test_an_unknown_answer_takes_the_id_of_the_stored_one_with_the_same_text() -> None:
    stored = [
        user("u"),
        assistant("s1", {"type": "step-start"}, said("OK", state="done")),
        assistant("s2", said("OK", state="done")),
    ]
    incoming = [
        user("u"),
        assistant("c1", said("OK")),
        assistant("c2", said("OK")),
        assistant("c3", said("OK")),
        assistant("c4", said("other")),
    ]
    ids = [m["id"] for m in rules.reconcile(incoming, stored)]
    assert ids == ["u", "s1", "s2", "c3", "c4"]


def test_an_id_that_the_client_knows_is_not_given_to_another_message() -> None:
    stored = [assistant("s", said("OK"))]
    incoming = [assistant("c", said("OK")), assistant("s", said("OK"))]
    assert [m["id"] for m in rules.reconcile(incoming, stored)] == ["c", "s"]


def test_an_unknown_answer_is_known_by_its_tool_calls_with_their_input() -> None:
    stored = [assistant("s", call(state="output-available", output=7))]
    other = assistant("c2", call(input={"a": 2}))
    [same, different] = rules.reconcile([assistant("c1", call()), other], stored)
    assert same["id"] == "s"
    assert same["parts"] == [call(state="output-available", output=7)]
    assert different == other


def test_outputs_of_ours_are_not_overwritten() -> None:
    stored = [assistant("s", call(state="output-available", output="ours"))]
    theirs = call(state="output-error", errorText="theirs", title="T")
    [merged] = rules.reconcile([assistant("s", theirs, said("x"))], stored)
    assert merged["parts"] == [
        call(state="output-available", output="ours", title="T"),
        said("x"),
    ]


def test_a_request_of_known_messages_alone_deletes_the_rest() -> None:
    stored = [user("u1"), assistant("a1"), user("u2"), assistant("a2")]
    assert rules.to_delete([user("u1"), assistant("a1"), user("u2")], stored) == ["a2"]
    assert rules.to_delete([user("u1"), user("new")], stored) == []
    assert rules.to_delete([], stored) == []
    assert rules.to_delete(stored, stored) == []


def test_trailing_and_merged_user_messages() -> None:
    messages = [user("1"), assistant("a"), user("2", "x"), user("3", "y")]
    assert rules.trailing_users(messages) == ["2", "3"]
    merged = rules.merged_users(messages, 1)
    assert merged == {"id": "3", "role": "user", "parts": [said("x"), said("y")]}
    assert rules.merged_users(messages, 3) is None


def test_the_first_result_of_a_tool_wins() -> None:
    part = call(state="approval-responded")
    assert rules.settle_tool(part, output=1, failed=False, error_text=None)
    assert (part["state"], part["output"], part["preliminary"]) == (
        "output-available",
        1,
        False,
    )
    assert not rules.settle_tool(part, output=2, failed=True, error_text="late")
    failed = call()
    assert rules.settle_tool(failed, output=None, failed=True, error_text=None)
    assert failed["errorText"] == "Tool execution denied by user"
    assert not rules.settle_tool(
        call(state="input-streaming"), output=1, failed=False, error_text=None
    )


def test_an_approval_is_given_once() -> None:
    part = call(state="approval-requested", approval={"id": "a"})
    assert rules.approve_tool(part, True)
    assert part["state"] == "approval-responded"
    assert part["approval"] == {"id": "a", "approved": True}
    assert not rules.approve_tool(part, False)
    denied = call()
    assert rules.approve_tool(denied, False)
    assert (denied["state"], denied["approval"]) == (
        "output-denied",
        {"id": "c", "approved": False},
    )


def test_a_call_is_found_in_the_newest_message_that_has_it() -> None:
    old, new = assistant("1", call(), call("d")), assistant("2", call())
    found = rules.find_tool([new, user("u"), old], "c")
    assert found is not None
    assert found[0] is new
    assert rules.find_tool([new, old], "d") == (old, old["parts"][1])
    assert rules.find_tool([new, old], "e") is None
    assert len(rules.open_tools(old, {"input-available"})) == 2
    assert rules.open_tools(None, {"input-available"}) == []


def test_an_unknown_history_is_looked_up_without_comparing_each_with_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A client may send anything: 2,000 against 2,000 must not block the others."""
    looked_at = 0
    content = rules._content

    def counted(message: dict[str, Any]) -> Any:
        nonlocal looked_at
        looked_at += 1
        return content(message)

    monkeypatch.setattr(rules, "_content", counted)
    stored = [assistant(f"s{n}", said(f"said {n}")) for n in range(2000)]
    sent = [assistant(f"c{n}", said(f"other {n}")) for n in range(2000)]
    assert rules.reconcile(sent, stored) == sent
    assert looked_at <= 4000
