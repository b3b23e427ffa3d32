"""WebAssembly modules that nobody here wrote: fetched from npm by name, version and checksum, kept, never committed.

Imports point down this list.

    test_wasm_third_party   instances of these modules, reset, interrupted, suspended
    test_wasm_third_party_in_a_host   the same by the capability, where the host is installed
    test_wasm_drivers       each module gives what a library of Python gives
    test_wasm_npm           how modules come here
    hosted, in_session      a database of the capability's, in a process of its own
    suspension              a database that moves to another process, and that process
    workshop                programs of these modules, with our engine
    wanted                  a module's bytes for a test, or the reason why there are none
    drivers/                what each module exports, called as its own glue calls it
    catalogue               which modules, and where each lies in its package
    packages                tarballs, kept in ``.cache/npm`` of the checkout
    npm                     the program, of this machine or from a wheel
"""
