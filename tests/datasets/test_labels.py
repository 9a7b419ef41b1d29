import hashlib

import polars as pl
import pytest

from acai_jax.datasets.labels import read_labels
from acai_jax.errors import LabelsError


@pytest.fixture
def labels_file(tmp_path):
    def write(text, encoding="utf-8"):
        path = tmp_path / "labels.csv"
        path.write_bytes(text.encode(encoding))
        return path

    return write


def test_table(labels_file):
    path = labels_file(
        "label,oid,candid,who\n"
        "h,ZTF18b,1105522281015015001,ann\n"
        "supernova Ia,ZTF18a,1105522281015015000,bob\n"
        "h,ZTF18b,1105522281015015001,eve\n"
    )
    labels = read_labels(path)
    assert labels.table.schema == {
        "alert_id": pl.Int64,
        "object_id": pl.String,
        "label": pl.String,
    }
    assert labels.table.rows() == [
        (1105522281015015000, "ZTF18a", "supernova Ia"),
        (1105522281015015001, "ZTF18b", "h"),
    ]
    assert labels.duplicates == 1
    assert labels.extra_columns == ("who",)
    assert labels.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_alerts_that_a_model_chose_are_known(labels_file):
    rows = ["1,random", "2,boundary", "3,SIMBAD: RR*", "4, relabel ", "5,", "6,disagreement"]
    text = "\n".join(["oid,label,candid,why", *(f"ZTF18a,h,{row}" for row in rows)])
    labels = read_labels(labels_file(text))
    assert labels.active == {2, 4, 6}
    assert labels.extra_columns == ()


@pytest.mark.parametrize("candid", [2**63 - 1, -(2**63), 0])
def test_candids_are_exact(labels_file, candid):
    assert (
        read_labels(labels_file(f"oid,candid,label\na,{candid},h\n")).table["alert_id"][0] == candid
    )


def test_what_editors_and_spreadsheets_do(labels_file):
    text = '\ufeffoid , candid,label\r\n"ZTF18a", 7 ,"h"\r\n\r\nZTF18b,8,v\r\n\r\n'
    assert read_labels(labels_file(text)).table.rows() == [(7, "ZTF18a", "h"), (8, "ZTF18b", "v")]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty: expected the columns oid, candid, label"),
        ("oid,candid,label\n", "holds no labels"),
        ("objectId,candid,label\na,1,h\n", "line 1: column oid is missing; found: objectId"),
        ("oid,candid,label,label\na,1,h,h\n", "line 1: column label is twice"),
        ("a,1,h\n", "line 1: column oid is missing"),
        ("oid,candid,label\na,1,h\na,1.1e18,h\n", "line 3: candid is '1.1e18', not a 64-bit"),
        ("oid,candid,label\na,1.0,h\n", "line 2: candid is '1.0'"),
        ("oid,candid,label\na,,h\n", "line 2: candid is ''"),
        (f"oid,candid,label\na,{2**63},h\n", "line 2: candid is '9223372036854775808'"),
        ("oid,candid,label\na,٣,h\n", "line 2: candid is '٣'"),
        ("oid,candid,label\na,1, \n", "line 2: label is empty"),
        ("oid,candid,label\n,1,h\n", "line 2: oid is empty"),
        (f"oid,candid,label\na,1,{'h' * 65}\n", "line 2: label is 'hhh"),
        ("oid,candid,label\na,1\n", "line 2: 2 fields, where the header has 3"),
        ("oid,candid,label\na,1,h,v\n", "line 2: 4 fields"),
        ('oid,candid,label\na,1,"h\n', "line 2: unexpected end of data"),
        (
            "oid,candid,label\na,1,h\nb,2,v\n\na,1,n\n",
            "line 5: candid 1 is 'n' of a, but 'h' of a in line 2",
        ),
        (
            "oid,candid,label\na,1,h\nb,1,h\n",
            "line 3: candid 1 is 'h' of b, but 'h' of a in line 2",
        ),
    ],
)
def test_bad_files_are_refused(labels_file, text, problem):
    path = labels_file(text)
    with pytest.raises(LabelsError) as caught:
        read_labels(path)
    assert problem in str(caught.value)
    assert str(path) in str(caught.value)


def test_files_that_are_no_text(labels_file, tmp_path):
    with pytest.raises(LabelsError, match="is not UTF-8 text"):
        read_labels(labels_file("oid,candid,label\né,1,h\n", "latin-1"))
    with pytest.raises(LabelsError, match="No such file or directory"):
        read_labels(tmp_path / "none.csv")
    with pytest.raises(LabelsError, match="Is a directory"):
        read_labels(tmp_path)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-x", "@SUM(A1)"])
@pytest.mark.parametrize("column", ["oid", "label"])
def test_what_begins_a_formula_is_no_name(text, column, tmp_path):
    row = {"oid": "ZTF20aaelulu", "candid": "7", "label": "h", column: text}
    path = tmp_path / "labels.csv"
    path.write_text(f"{','.join(row)}\n{','.join(row.values())}\n")
    with pytest.raises(LabelsError, match=f"line 2: {column} is .* begins like a spreadsheet's"):
        read_labels(path)
