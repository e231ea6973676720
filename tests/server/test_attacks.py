"""What hostile programs and web pages of this machine send: all of it is refused, each in one line of the log."""

from serving import Served

from tests.load.attacks import assault, get, post, send
from tests.load.report import Report


def test_everything_is_refused(server: Served) -> None:
    port, report = int(server.url.rpartition(":")[2]), Report()
    before = server.mark()
    assault(port, report)
    assert report.faults == []
    assert report.counts["attacks"] > 200
    lines = server.lines_since(before)
    assert all(line.isprintable() and len(line) <= 1000 for line in lines)
    assert not any("error of this program" in line for line in lines)
    told = [line for line in lines if line.split()[1:2] == ["127.0.0.1"]]
    preface = 1  # of HTTP/2: it reads as two requests
    assert len(told) == report.counts["attacks"] - report.counts["unanswered"] + preface
    assert send(port, get("/health"))[0] == 200


def test_what_is_not_asked_for_twice(server: Served) -> None:
    """A request in the body of one that says in two ways where it ends is not answered."""
    port = int(server.url.rpartition(":")[2])
    before = server.mark()
    inner = b"0\r\n\r\n" + get("/v1/models")
    status, answer = send(port, post("/v1/completions", inner, "Transfer-Encoding: chunked"))
    assert (status, b"connection: close" in answer.lower()) == (400, True)
    assert len(server.lines_since(before)) == 1
