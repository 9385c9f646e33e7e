"""A Firefox without a window, driven by its own protocol, Marionette: requests are numbered JSON after their length."""

import json
import shutil
import socket
import subprocess
import time

PROGRAM = shutil.which("firefox-esr") or shutil.which("firefox")
_PREFERENCES = {
    "marionette.port": 0,  # a free one, which stands in the profile
    "app.update.auto": False,
    "app.normandy.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,none",
}


class Firefox:
    """One browser with one page.

    Args:
        profile: folder of its own, empty.
    """

    def __init__(self, profile):
        lines = [f'user_pref("{name}", {json.dumps(value)});' for name, value in _PREFERENCES.items()]
        (profile / "user.js").write_text("\n".join(lines), encoding="utf-8")
        command = [PROGRAM, "--headless", "--marionette", "--no-remote", "--profile", str(profile)]
        self._socket = None
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            self._socket = self._connected(profile / "MarionetteActivePort")
            self._answers, self._count = self._socket.makefile("rb"), 0
            self._read()  # it greets
            self.version = self.do("NewSession", capabilities={})["capabilities"]["browserVersion"]
        except BaseException:
            self.close()
            raise

    def _connected(self, place, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                return socket.create_connection(("127.0.0.1", int(place.read_text())), timeout=60)
            except (OSError, ValueError):
                time.sleep(0.1)
        raise TimeoutError(f"Firefox has opened no port in {seconds} s.")

    def _read(self):
        length = b""
        while (letter := self._answers.read(1)) != b":":
            length += letter
        return json.loads(self._answers.read(int(length)))

    def do(self, command, **parameters):
        """What a command of WebDriver answers."""
        self._count += 1
        asked = json.dumps([0, self._count, f"WebDriver:{command}", parameters]).encode()
        self._socket.sendall(b"%d:%s" % (len(asked), asked))
        _, _, error, answer = self._read()
        if error:
            raise RuntimeError(f"{command}: {error['message']}")
        return answer

    def open(self, address):
        """Go there."""
        self.do("Navigate", url=address)
        return self

    def value(self, expression, *arguments):
        """Of an expression of JavaScript, in which `arguments` are known; of a promise, what it brings."""
        return self.do("ExecuteScript", script=f"return {expression}", args=list(arguments), sandbox=None)["value"]

    def wait(self, expression, seconds=120):
        """Until an expression holds."""
        end = time.monotonic() + seconds
        while not self.value(expression):
            if time.monotonic() > end:
                raise TimeoutError(f"{expression} did not come true in {seconds} s.")
            time.sleep(0.05)
        return self

    def press(self, selector):
        """Click on an element."""
        found = self.do("FindElement", using="css selector", value=selector)["value"]
        self.do("ElementClick", id=next(iter(found.values())))

    def close(self):
        """End it."""
        if self._socket is not None:
            self._answers.close()
            self._socket.close()
        self._process.terminate()
        self._process.wait(30)
