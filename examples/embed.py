"""An application that hosts plugins. Run it where the lantern is installed: ``python examples/embed.py``."""

from __future__ import annotations

from weighbridge_hookspecs import hookimpl, hookspec

from weighbridge import Host, format_bytes


class Hooks:
    """The application's own hooks: what its plugins may implement besides those of Weighbridge."""

    @hookspec
    def greet(self, name: str) -> str | None:
        """Welcome `name`, in one line; None to say nothing."""


class Welcome:
    """A feature of the application itself; it is called like everybody's plugin."""

    def __init__(self, host: Host) -> None:
        self.host = host

    @hookimpl
    def greet(self, name: str) -> str:
        # Looked up at every call: a reference that is kept would keep the lantern from being unloaded.
        if "machine-load" not in self.host.capabilities:
            return f"Hello {name}! Nobody here knows how busy this machine is."
        latest = self.host.capabilities["machine-load"].readings()[-1]
        return f"Hello {name}! The load of this machine is {latest.load}."


def main() -> None:
    with Host("128 MiB", settings={"lantern": {"seconds": 0.5}}) as host:
        host.add_hookspecs(Hooks)
        host.register("welcome", Welcome(host))
        report = host.load_all()
        for outcome in (*report.loaded, *report.refused, *report.failed):
            print(f"{outcome.name} is {outcome.state} {outcome.reason}".rstrip())
        for line in host.hook.greet(name="Ada"):
            print(line)
        for account in host.accounts().plugins:
            print(f"{account.plugin} holds {format_bytes(account.held_bytes)}, and {dict(account.leases)} on lease")
        for outcome in reversed(report.loaded):
            receipt = host.unload(outcome.name)
            print(f"{receipt.plugin} is {receipt.state}, {len(receipt.survivors)} of {receipt.watched} things survived")


if __name__ == "__main__":
    main()
