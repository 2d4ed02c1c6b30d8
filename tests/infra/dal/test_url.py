import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtx.app.override_errors import check_no_secret
from mtx.errors import ConfigError
from mtx.infra.dal.remote_url_check import checked_url, is_url
from mtx.redaction_and_escaping import redacted_address


def test_an_address_is_told_from_a_folder() -> None:
    assert [is_url(root) for root in ("s3://b/p", "memory://x", "/data/mtx", "~/mtx", "C:/x")] == [1, 1, 0, 0, 0]


def test_slashes_at_the_end_and_capitals_of_the_protocol_do_not_matter() -> None:
    assert checked_url("S3://Bucket/prefix//") == "s3://Bucket/prefix"


@pytest.mark.parametrize(
    ("root", "shown"),
    [
        ("s3://KEYID:hidden@bucket/prefix", r"s3://\*\*\*@bucket/prefix"),
        ("s3://KEYID:hid/den@bucket/prefix", r"s3://\*\*\*@bucket/prefix"),
        ("s3://bucket/prefix?token=hidden", r"s3://bucket/prefix\?\*\*\*"),
        ("s3://bucket/prefix#hidden", r"s3://bucket/prefix\?\*\*\*"),
    ],
)
def test_an_address_with_a_secret_is_refused_without_repeating_it(root: str, shown: str) -> None:
    with pytest.raises(ConfigError, match=f"without user, password and query, .*but is {shown}. Remove") as caught:
        checked_url(root)
    assert "hid" not in str(caught.value)
    with pytest.raises(ConfigError):
        check_no_secret([f"storage.root={root}"])


@pytest.mark.parametrize("root", ["s3://", "s3:///", "simplecache::s3://b/p", "s3://b/../c", "://b", "1://b"])
def test_what_is_no_single_address_is_refused(root: str) -> None:
    with pytest.raises(ConfigError, match=r"storage.root must be a URL such as s3://BUCKET/PREFIX"):
        checked_url(root)


def test_the_address_of_a_local_folder_is_refused_with_the_folder_to_write_instead() -> None:
    with pytest.raises(ConfigError, match=r"For the local folder, set storage.root=/data/mtx"):
        checked_url("file:///data/mtx")


@pytest.mark.parametrize("key", ["+storage.secret", "storage.options.aws_secret_access_key", "++storage.token"])
def test_a_secret_among_the_overrides_is_refused_without_repeating_it(key: str) -> None:
    with pytest.raises(ConfigError, match=r"contains a credential, at \*\*\*") as caught:
        check_no_secret(["task=show", f"{key}=hidden"])
    assert "hidden" not in str(caught.value)


def test_other_overrides_pass() -> None:
    check_no_secret(["task=show", "storage.root=s3://b/p", "storage.root=/data/a@b", "tokenizer.unk_token=x", "-m"])


@settings(deadline=None)
@given(st.text(alphabet="ab:/%", min_size=1), st.text(alphabet="xyz", min_size=1))
def test_nothing_before_an_at_sign_is_shown(secret: str, bucket: str) -> None:
    assert redacted_address(f"s3://{secret}@{bucket}") == f"s3://***@{bucket}"
