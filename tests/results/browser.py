"""A page in a headless Chromium that is driven over its debugging pipe, with nothing but the standard library.

Messages of the DevTools protocol (https://chromedevtools.github.io/devtools-protocol/) are JSON, each ended by a null
byte; the browser reads them from file descriptor 3 and writes them to 4.
"""

import fcntl
import itertools
import json
import os
import shutil
import signal
import threading

EXECUTABLE = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
LIMIT = 60.0
"""Seconds after which a browser that hangs is killed."""


class Browser:
    """One page. ``events`` holds what the browser told of it, in order."""

    def __init__(self, profile):
        """Start the browser.

        Args:
          profile: a folder for its files.
        """
        reads, self._out = os.pipe()
        inward, writes = os.pipe()
        # From 10 on, so that neither end is one that it is copied to.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (reads, writes)]
        files = [*((os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 1, 2)),
                 *((os.POSIX_SPAWN_DUP2, end, to) for to, end in enumerate(ends, 3))]
        words = [EXECUTABLE, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                 "--no-first-run", "--disable-background-networking", f"--user-data-dir={profile}",
                 "--remote-debugging-pipe", "about:blank"]
        self._process = os.posix_spawn(EXECUTABLE, words, os.environ, file_actions=files)
        for end in (reads, writes, *ends):
            os.close(end)
        self._watch = threading.Timer(LIMIT, os.kill, (self._process, signal.SIGKILL))
        self._watch.start()
        self._in = os.fdopen(inward, "rb")
        self._numbers, self._unread, self.events, self._session = itertools.count(1), b"", [], {}
        page = next(one for one in self.call("Target.getTargets")["targetInfos"] if one["type"] == "page")
        session = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = {"sessionId": session["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def _message(self):
        while b"\0" not in self._unread:
            part = self._in.read1(1 << 16)
            assert part, "the browser has ended"
            self._unread += part
        message, _, self._unread = self._unread.partition(b"\0")
        return json.loads(message)

    def call(self, method, **params):
        """What the browser answers to a command."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params, **self._session}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (answer := self._message()).get("id") != number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, path, width):
        """Load a file in a window of so many CSS pixels, a phone's where it is narrow."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1,
                  mobile=width < 600)
        self.events.clear()
        self.call("Page.navigate", url=path.resolve().as_uri())
        while not self.told("Page.loadEventFired"):
            self.events.append(self._message())

    def told(self, *methods):
        """The events of these kinds."""
        return [event["params"] for event in self.events if event["method"] in methods]

    def evaluate(self, expression):
        """The value of a JavaScript expression in the page, as JSON."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def close(self):
        """End the browser."""
        self.call("Browser.close")
        os.waitpid(self._process, 0)
        self._watch.cancel()
        self._in.close()
        os.close(self._out)
