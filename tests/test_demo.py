"""The demo's table says NO where it has to. The story itself is run by ``make demo ARGS=--once``."""

import socket
from dataclasses import fields, replace

import pytest

from example_project.demo.order import answers_to, status_of
from example_project.demo.processes import DemoError, Processes, is_free, wait_until
from example_project.demo.promises import NOT_OFFERED, PROMISED
from example_project.demo.table import WIDTH, Facts, Line, render, verdict

GOOD = [*(Line(case, facts, facts) for case, facts in PROMISED.items()), *NOT_OFFERED]


def test_all_as_promised():
    assert verdict(GOOD) == (f"{len(PROMISED)} of {len(PROMISED)} cases are as promised.", True)
    assert "NO" not in render(GOOD).split()


@pytest.mark.parametrize("case", PROMISED)
@pytest.mark.parametrize("field", [field.name for field in fields(Facts)])
def test_one_wrong_word_in_one_row_is_enough(case, field):
    promised = PROMISED[case]
    wrong = Line(case, promised, replace(promised, **{field: getattr(promised, field) + "."}))
    lines = [wrong if line.case == case else line for line in GOOD]
    assert verdict(lines)[1] is False
    table = render(lines)
    assert table.count("NOT AS PROMISED") == 1
    assert f"NOT AS PROMISED: {field} is" in table


def test_a_case_that_broke_off_is_not_as_promised():
    promised = PROMISED["paid"]
    lines = [Line("paid", promised, promised, "waited in vain")]
    assert verdict(lines) == ("0 of 1 cases are as promised.", False)
    assert "NOT AS PROMISED: waited in vain" in render(lines)


def test_no_case_at_all_is_not_as_promised():
    assert verdict(list(NOT_OFFERED))[1] is False


def test_the_table_fits():
    wrong = [Line(case, facts, Facts("x" * 300, "y " * 200, "", ""), "z " * 200) for case, facts in PROMISED.items()]
    assert WIDTH <= 140
    assert max(map(len, render([*GOOD, *wrong]).splitlines())) <= 140


def test_answers_are_told_in_the_order_in_which_they_came():
    sent = [("Paying", 200), ("Paid", None), ("Paid", None), ("Paid", 200), ("Paid", 200)]
    callbacks = [{"status_word": word, "http_status": status} for word, status in sent]
    assert answers_to(callbacks) == ["Paying 200", "Paid no answer", "Paid 200 ×2"]


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
