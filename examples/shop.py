import flowgen
from flowgen import Flow, Sleep, Step, task, workflow


@task
def charge(order_id: str, cents: int) -> str:
    return f"ch_{order_id}_{cents}"


@workflow
def checkout(order_id: str) -> Flow[str]:
    receipt = yield from Step(charge, order_id, cents=500)  # inferred: str
    yield Sleep(seconds=2)
    return receipt


if __name__ == "__main__":
    flowgen.run()  # flowgen.run("postgresql://...") on yours
