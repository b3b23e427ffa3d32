"""Leaves a browser in webbrowser."""

from __future__ import annotations

import webbrowser

TIE = "webbrowser"

NAME = f"window-{__name__}"


class Window(webbrowser.BaseBrowser):
    def open(self, url: str, new: int = 0, autoraise: bool = True) -> bool:
        return True


webbrowser.register(NAME, Window, None, preferred=True)


def intact() -> object:
    order = vars(webbrowser)["_tryorder"]
    return [webbrowser.get(NAME).open("about:weights"), NAME in order]
