"""A program that reads the first sheet of an Excel workbook: workbook, file to write, maximum memory in bytes.

It runs in a process of its own, without the rest of newsreel, because its reader allocates what a workbook claims: a
table up to the last cell, however far away it is. The limit ends this process instead of the user's.
"""

import resource
import sys


def main() -> None:
    workbook, output, max_bytes = sys.argv[1:]
    _, hard_limit = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (int(max_bytes), hard_limit))
    import fastexcel
    import pyarrow as pa

    try:
        sheet = fastexcel.read_excel(workbook).load_sheet(0, header_row=None, skip_rows=0, dtypes="string").to_arrow()
    except BaseException as error:  # the reader's panics are no Exceptions
        sys.exit((str(error) or type(error).__name__).splitlines()[0])
    with pa.OSFile(output, "wb") as file, pa.ipc.new_file(file, sheet.schema) as writer:
        writer.write_batch(sheet)


if __name__ == "__main__":
    main()
