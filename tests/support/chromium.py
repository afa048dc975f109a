"""A real Chromium, driven over its debugging protocol by a client of a few lines."""

import asyncio
import base64
import contextlib
import itertools
import json
import shutil

import aiohttp

from tests.support.peers import PeerProcess, missing
from tests.support.waiting import eventually

#: Keys as a browser is told of them.
KEYS = {
    "Tab": {"key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9},
    "Enter": {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"},
    "Space": {"key": " ", "code": "Space", "windowsVirtualKeyCode": 32, "text": " "},
    "Backspace": {"key": "Backspace", "code": "Backspace", "windowsVirtualKeyCode": 8},
    "ArrowDown": {"key": "ArrowDown", "code": "ArrowDown", "windowsVirtualKeyCode": 40},
    "Escape": {"key": "Escape", "code": "Escape", "windowsVirtualKeyCode": 27},
}

OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)


def find_chromium():
    """The path of Chromium, or ``missing``."""
    return shutil.which("chromium") or missing("chromium is not installed; it comes with Debian's chromium")


class Chromium:
    """The browser: a process with a profile of its own."""

    def __init__(self, program, directory):
        self._profile = directory / "profile"
        command = (program, *OPTIONS, f"--user-data-dir={self._profile}", "about:blank")
        environment = {"HOME": directory, "XDG_CONFIG_HOME": directory, "XDG_CACHE_HOME": directory}
        self._process = PeerProcess(command, directory / "chromium.log", environment)

    def start(self):
        self._process.start()

    def stop(self):
        self._process.stop()

    async def _address(self):
        said = self._profile / "DevToolsActivePort"

        def is_up():
            self._process.must_run()
            return said.exists() and said.read_text().count("\n") >= 1

        await eventually(is_up)
        port, path = said.read_text().split()
        return f"ws://127.0.0.1:{port}{path}"

    @contextlib.asynccontextmanager
    async def page(self, url, *, width=1280, height=900, dark=False, touch=False):
        """Open a page, in a context that shares nothing with any other."""
        address = await self._address()
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(address, max_msg_size=2**26) as socket,
        ):
            found = Page(socket)
            try:
                await found.open(url, width, height, dark=dark, touch=touch)
                yield found
            finally:
                await found.close()


class Page:
    """One page: what its console says, and what can be done with it."""

    def __init__(self, socket):
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers = {}
        self._session = None
        self._reader = asyncio.ensure_future(self._read())
        #: What the console and the browser say of this page at the level of an error or a warning, its own
        #: exceptions, and violations of its policy.
        self.complaints = []
        self.requests = []

    async def open(self, url, width, height, *, dark, touch):
        context = await self.do("Target.createBrowserContext", disposeOnDetach=True)
        target = await self.do(
            "Target.createTarget", url="about:blank", browserContextId=context["browserContextId"]
        )
        attached = await self.do("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Audits"):
            await self.do(f"{domain}.enable")
        await self.look(width=width, height=height, dark=dark, touch=touch)
        await self.do("Page.navigate", url=url)

    async def look(self, *, width=1280, height=900, dark=False, touch=False):
        """Be another screen."""
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        await self.do("Emulation.setEmulatedMedia", features=features)
        await self.do(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=touch,
        )

    async def close(self):
        self._reader.cancel()
        await asyncio.wait({self._reader})

    async def do(self, method, **parameters):
        """Send a command; return its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session is not None and not method.startswith("Target."):
            message["sessionId"] = self._session
        waiting = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_str(json.dumps(message))
        answer = await asyncio.wait_for(waiting, 60)
        assert "error" not in answer, (method, answer)
        return answer["result"]

    async def _read(self):
        async for message in self._socket:
            found = json.loads(message.data)
            if "id" in found:
                self._answers.pop(found["id"]).set_result(found)
            else:
                self._take(found["method"], found["params"])

    def _take(self, method, told):
        match method:
            case "Runtime.exceptionThrown":
                details = told["exceptionDetails"]
                self.complaints.append(details.get("exception", {}).get("description", details["text"]))
            case "Runtime.consoleAPICalled" if told["type"] in {"error", "warning", "assert"}:
                self.complaints.append(str(told["args"]))
            case "Log.entryAdded" if told["entry"]["level"] in {"error", "warning"}:
                self.complaints.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")
            case "Audits.issueAdded" if told["issue"]["code"] != "PerformanceIssue":
                self.complaints.append(f"{told['issue']['code']}: {told['issue']['details']}"[:1000])
            case "Network.requestWillBeSent":
                self.requests.append(told["request"]["url"])

    async def value(self, expression):
        """Return what an expression of JavaScript comes to."""
        found = await self.do(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, (expression, found["exceptionDetails"])
        return found["result"].get("value")

    async def text(self, selector):
        """Return the text that is shown in the first element of a selector; none is ``None``."""
        return await self.value(f"document.querySelector({json.dumps(selector)})?.innerText ?? null")

    async def until(self, expression):
        """Wait until an expression of JavaScript is true; return it."""

        async def is_so():
            # Evaluated far less often than `eventually` asks: the page has work to do itself.
            await asyncio.sleep(0.1)
            return await self.value(expression)

        try:
            return await eventually(is_so)
        except AssertionError as error:
            raise AssertionError(f"{expression}: {error}; complaints: {self.complaints}") from None

    async def press(self, *keys, shift=False):
        """Press keys as a keyboard does."""
        for key in keys:
            about = {**KEYS[key], "modifiers": 8 if shift else 0}
            await self.do("Input.dispatchKeyEvent", type="keyDown", **about)
            await self.do("Input.dispatchKeyEvent", type="keyUp", **{**about, "text": ""})

    async def type(self, text):
        await self.do("Input.insertText", text=text)

    async def tab_to(self, selector, most=400):
        """Press Tab until an element has the focus; that is how a keyboard gets there."""
        for _ in range(most):
            await self.press("Tab")
            if await self.value(f"document.activeElement.matches({json.dumps(selector)})"):
                return
        raise AssertionError(f"{selector} cannot be reached with Tab")

    async def picture(self, selector=None, height=None):
        """Return a PNG of the first element of a selector, or of what is seen."""
        more = {}
        if selector is not None:
            box = await self.value(
                f"(() => {{ const b = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
                " return {x: b.x + scrollX, y: b.y + scrollY, width: b.width, height: b.height}; })()"
            )
            box["height"] = min(box["height"], height or box["height"])
            more = {"clip": {**box, "scale": 1}, "captureBeyondViewport": True}
        found = await self.do("Page.captureScreenshot", format="png", **more)
        return base64.b64decode(found["data"])
