"""The playground: one page that trains Hamiltonian networks in a browser, by the same kernels compiled to WebAssembly.

`hdnn playground` opens it. The page needs no network and no server; it is built from `playground/` of the project.
"""
