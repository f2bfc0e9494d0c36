"""The processes that notebooks run in while they are checked and graded.

`apart` has some for each submission and ends all that it starts; in them
`_worker` grades. `_namespaces` and `_resources` are the system's means for it.
There `_judge` runs two kernels: the cells of the student in `_kernel`, which
`_sandbox` locks in, and the tests in another, which calls the student's
functions by `_remote`. `_manager` starts kernels.
"""
