"""The demo's table says NO where it has to. The stories themselves are run by ``make demo ARGS=--once``."""

import socket
from dataclasses import fields, replace
from types import SimpleNamespace

import pytest

from example_project.demo.order import answers_to, status_of
from example_project.demo.processes import DemoError, Processes, is_free, wait_until
from example_project.demo.stories import STORIES
from example_project.demo.stories.base import KILLED, PAID
from example_project.demo.table import WIDTH, Facts, Group, Line, NotOffered, render, verdict
from example_project.shop.ways import WAYS


def told(story, change=lambda line: line):
    """The group of a story that went as promised, each line changed by ``change``."""
    return Group(story.title, [*(change(Line(name, facts, facts)) for name, facts in story.promised.items()), *story.not_offered])


GOOD = [told(story) for story in STORIES]
COUNT = sum(len(story.promised) for story in STORIES)
CASES = [(story, name) for story in STORIES for name in story.promised]


def test_all_as_promised():
    assert verdict(GOOD) == (f"{COUNT} of {COUNT} cases are as promised.", True)
    table = render(GOOD)
    assert table.split().count("yes") == COUNT
    assert "NO" not in table.split()
    assert all(f"--- {story.title} ---" in table for story in STORIES)


@pytest.mark.parametrize(("story", "case"), CASES, ids=[f"{story.gateway}: {name}" for story, name in CASES])
def test_one_wrong_word_in_one_row_is_enough(story, case):
    for field in fields(Facts):

        def spoil(line, name=field.name):
            return replace(line, seen=replace(line.seen, **{name: "x"})) if line.case == case else line

        groups = [told(story, spoil), *(told(other) for other in STORIES if other is not story)]
        assert verdict(groups) == (f"{COUNT - 1} of {COUNT} cases are as promised.", False)
        table = render(groups)
        assert table.count("NOT AS PROMISED") == 1
        assert f"NOT AS PROMISED: {field.name} is 'x'" in table


def test_a_case_that_broke_off_is_not_as_promised():
    promised = STORIES[0].promised[PAID]
    groups = [Group("OxaPay", [Line(PAID, promised, promised, "waited in vain")])]
    assert verdict(groups) == ("0 of 1 cases are as promised.", False)
    assert "NOT AS PROMISED: waited in vain" in render(groups)


def test_no_case_at_all_is_not_as_promised():
    assert verdict([Group("OxaPay", list(STORIES[0].not_offered))])[1] is False


def test_the_table_fits():
    def spoil(line):
        return replace(line, seen=Facts("x" * 300, "y " * 200, "", ""), trouble="z " * 200)

    assert WIDTH <= 140
    assert max(map(len, render([*GOOD, *(told(story, spoil) for story in STORIES)]).splitlines())) <= 140


@pytest.mark.parametrize("story", STORIES, ids=[story.gateway for story in STORIES])
def test_what_every_story_says(story):
    """Each has a way at the checkout, the cases that concern all, and a source for whatever its gateway does not offer."""
    assert story.way in WAYS
    assert {PAID, KILLED} <= story.promised.keys()
    assert not {line.case for line in story.not_offered} & story.promised.keys()
    assert all(isinstance(line, NotOffered) and "https://" in line.source for line in story.not_offered)


@pytest.mark.parametrize("story", STORIES, ids=[story.gateway for story in STORIES])
def test_every_promise_has_its_case(story, monkeypatch):
    """And no case is told of which nothing is promised: a row that nobody fills would be found only by the whole demo."""
    told = story(SimpleNamespace(simulator_url="http://127.0.0.1:9/simulator/", site=""))
    begun, gone_on = [], []
    monkeypatch.setattr(told, "case", lambda name, step, product="": begun.append(name))
    monkeypatch.setattr(told, "go_on", lambda name, step: gone_on.append(name))
    for part in (told.begin, told.kill, told.tell, told.end):
        part()
    assert sorted(begun) == sorted(story.promised)
    assert KILLED in gone_on
    assert set(gone_on) <= set(begun)


def test_answers_are_told_in_the_order_in_which_they_came():
    sent = [("Paying", None), ("Paid", None), ("Paying", None), ("Paid", None), ("Paying", 200), ("Paid", 200), ("Paid", 200)]
    callbacks = [{"status_word": word, "http_status": status} for word, status in sent]
    assert answers_to(callbacks) == ["Paying no answer", "Paid no answer", "Paying 200", "Paid 200 ×2"]


def test_a_status_with_its_flags_and_sum():
    invoice = {"status": "overpaid", "late": True, "manual": False, "needs_review": True}
    invoice |= {"amount": "79", "amount_received": "86.9", "currency": "USDT"}
    assert status_of(invoice) == "overpaid, late, to review, 86.9 of 79 USDT"


def test_a_port_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not is_free(server.getsockname()[1])


def test_waiting_in_vain():
    with pytest.raises(DemoError, match="for the moon"):
        wait_until(lambda: False, "the moon", seconds=0)


def test_a_process_that_fails_is_told_with_its_log(tmp_path):
    processes = Processes(tmp_path, {"DJANGO_SETTINGS_MODULE": "example_project.settings", "VAR_DIR": str(tmp_path)})
    with pytest.raises(DemoError, match="Unknown command: 'no_such_command'"):
        processes.run("wrong", "no_such_command")
