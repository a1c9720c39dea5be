"""The official `openai` Python package against a running server. usage: python_client.py BASE_URL KEY MODEL
Each check is a function; the last line is 'N passed, N failed'."""
import concurrent.futures, sys, time, urllib.request

import openai

base_url, key, model = sys.argv[1:4]
client = openai.OpenAI(base_url=base_url, api_key=key, max_retries=0, timeout=120)
hello = [{"role": "user", "content": "Say hello in one short sentence."}]


def lists_and_finds_models():
    assert model in [m.id for m in client.models.list()]
    assert client.models.retrieve(model).id == model


def chats():
    answer = client.chat.completions.create(model=model, messages=hello, max_tokens=24, temperature=0)
    assert answer.object == "chat.completion" and answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content and answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def streams_the_same_text():
    whole = client.chat.completions.create(model=model, messages=hello, max_tokens=24, temperature=0).choices[0].message.content
    chunks = list(client.chat.completions.create(model=model, messages=hello, max_tokens=24, temperature=0, stream=True,
                                                 stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] in ("stop", "length")
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens > 0


def streams_through_the_helper():
    # the helper takes an answer that reached its length limit for an error
    with client.chat.completions.stream(model=model, messages=hello, max_tokens=400, stop=[".", "!", "?"], temperature=0) as stream:
        for _ in stream:
            pass
        assert stream.get_final_completion().choices[0].message.content


def several_answers_with_log_probs():
    answer = client.chat.completions.create(model=model, messages=hello, max_tokens=6, n=2, seed=3, temperature=1, logprobs=True, top_logprobs=4)
    assert [c.index for c in answer.choices] == [0, 1]
    for choice in answer.choices:
        assert all(len(t.top_logprobs) == 4 and t.logprob <= 0 and t.bytes for t in choice.logprobs.content)


def completes():
    answer = client.completions.create(model=model, prompt=["One, two,", "A, b,"], max_tokens=5, temperature=0, logprobs=2)
    assert len(answer.choices) == 2 and all(c.text for c in answer.choices)
    assert len(answer.choices[0].logprobs.tokens) == answer.usage.completion_tokens - len(answer.choices[1].logprobs.tokens)
    streamed = "".join(c.choices[0].text for c in client.completions.create(model=model, prompt="One, two,", max_tokens=5, temperature=0, stream=True))
    assert streamed == answer.choices[0].text


def scores_a_prompt():
    answer = client.completions.create(model=model, prompt="The sky is blue", max_tokens=0, echo=True, logprobs=1)
    lists = answer.choices[0].logprobs
    assert answer.choices[0].text == "The sky is blue" and "".join(lists.tokens) == "The sky is blue"
    assert lists.token_logprobs[0] is None and all(p <= 0 for p in lists.token_logprobs[1:])


def embeds():
    # base64 unless floats are asked for
    texts = ["Where is my parcel?", "My card was charged twice."]
    packed = client.embeddings.create(model=model, input=texts)
    plain = client.embeddings.create(model=model, input=texts, encoding_format="float")
    assert [d.index for d in packed.data] == [0, 1] and packed.usage.prompt_tokens == packed.usage.total_tokens > 0
    for a, b in zip(packed.data, plain.data):
        assert len(a.embedding) == len(b.embedding) and max(abs(x - y) for x, y in zip(a.embedding, b.embedding)) < 1e-6
        assert abs(sum(x * x for x in a.embedding) - 1) < 1e-5
    short = client.embeddings.create(model=model, input=[5, 6, 7], dimensions=8)
    assert len(short.data) == 1 and len(short.data[0].embedding) == 8 and short.usage.prompt_tokens == 3


def stops():
    answer = client.completions.create(model=model, prompt="One, two, three, four,", max_tokens=20, temperature=0, stop=[","])
    assert "," not in answer.choices[0].text and answer.choices[0].finish_reason == "stop"


def expect(kind, status, code, **fields):
    try:
        client.chat.completions.create(**{"model": model, "messages": hello, "max_tokens": 2, **fields})
    except kind as error:
        assert error.status_code == status and error.code == code, (error.status_code, error.code)
        return error
    raise AssertionError("no error")


def tells_errors():
    expect(openai.NotFoundError, 404, "model_not_found", model="gpt-4o")
    expect(openai.BadRequestError, 400, "invalid_value", temperature=9)
    expect(openai.BadRequestError, 400, "unsupported_parameter", response_format={"type": "json_object"})
    error = expect(openai.BadRequestError, 400, "context_length_exceeded", messages=[{"role": "user", "content": "word " * 200000}])
    assert "too many" in str(error)


def asks_for_the_key():
    try:
        openai.OpenAI(base_url=base_url, api_key="wrong", max_retries=0).models.list()
    except openai.AuthenticationError as error:
        assert error.status_code == 401
        return
    raise AssertionError("a wrong key was taken")


def running():
    request = urllib.request.Request(base_url.rsplit("/v1", 1)[0] + "/metrics", headers={"Authorization": "Bearer " + key})
    text = urllib.request.urlopen(request, timeout=10).read().decode()
    return sum(int(line.split()[-1]) for line in text.splitlines() if line.startswith(("fettle_requests_running{", "fettle_requests_waiting{")))


def leaving_a_stream_frees_the_server():
    for _ in range(3):
        stream = client.chat.completions.create(model=model, messages=hello, max_tokens=4000, stream=True, extra_body={"ignore_eos": True})
        next(iter(stream))
        stream.close()
    for _ in range(200):
        if running() == 0:
            return
        time.sleep(0.05)
    raise AssertionError("the server still works for clients that left")


def eight_at_once_as_one_alone():
    def ask(_):
        return client.chat.completions.create(model=model, messages=hello, max_tokens=16, temperature=0).choices[0].message.content
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ask, range(8)))) == 1


checks = [lists_and_finds_models, chats, streams_the_same_text, streams_through_the_helper, several_answers_with_log_probs, completes, scores_a_prompt,
          embeds, stops, tells_errors, asks_for_the_key, leaving_a_stream_frees_the_server, eight_at_once_as_one_alone]
failed = 0
for check in checks:
    try:
        check()
        print("ok    ", check.__name__)
    except Exception as error:
        failed += 1
        print("FAILED", check.__name__, type(error).__name__, error)
print(f"{len(checks) - failed} passed, {failed} failed")
sys.exit(1 if failed else 0)
