"""Chat templates of the families, and conversations to try them on. Used by
tests/test_chat_parity.py and by tokenizer_golden.py."""

QWEN3 = r'''{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\n\n' }}
    {%- endif %}
    {{- "# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with function signatures within <tools></tools> XML tags:\n<tools>" }}
    {%- for tool in tools %}
        {{- "\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\n</tools>\n\nFor each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call><|im_end|>\n" }}
{%- else %}
    {%- if messages[0].role == 'system' %}
        {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
    {%- endif %}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in content %}
                {%- set reasoning_content = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
                {%- set content = content.split('</think>')[-1].lstrip('\n') %}
            {%- endif %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index %}
            {%- if loop.last or (not loop.last and reasoning_content) %}
                {{- '<|im_start|>' + message.role + '\n<think>\n' + reasoning_content.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}
            {%- else %}
                {{- '<|im_start|>' + message.role + '\n' + content }}
            {%- endif %}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\n' + content }}
        {%- endif %}
        {%- if message.tool_calls %}
            {%- for tool_call in message.tool_calls %}
                {%- if (loop.first and content) or (not loop.first) %}
                    {{- '\n' }}
                {%- endif %}
                {%- if tool_call.function %}
                    {%- set tool_call = tool_call.function %}
                {%- endif %}
                {{- '<tool_call>\n{"name": "' }}
                {{- tool_call.name }}
                {{- '", "arguments": ' }}
                {%- if tool_call.arguments is string %}
                    {{- tool_call.arguments }}
                {%- else %}
                    {{- tool_call.arguments | tojson }}
                {%- endif %}
                {{- '}\n</tool_call>' }}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\n<tool_response>\n' }}
        {{- content }}
        {{- '\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}'''

TEMPLATES = {
    "chatml": "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
              "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    "olmoe": "{{ bos_token }}{% for message in messages %}\n{% if message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] }}\n"
             "{% elif message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] }}\n{% elif message['role'] == 'assistant' %}\n"
             "{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n{% if loop.last and add_generation_prompt %}\n"
             "{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}",
    "deepseek-moe": "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{{ bos_token }}"
                    "{% for message in messages %}{% if message['role'] == 'user' %}{{ 'User: ' + message['content'] + '\n\n' }}"
                    "{% elif message['role'] == 'assistant' %}{{ 'Assistant: ' + message['content'] + eos_token }}"
                    "{% elif message['role'] == 'system' %}{{ message['content'] + '\n\n' }}{% endif %}{% endfor %}"
                    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}",
    "mixtral": "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
               "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
               "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
               "{{ message['content'] + eos_token}}{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}",
    "llama-2": "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}"
               "{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
               "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
               "{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
               "{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}"
               "{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}"
               "{% endif %}{% endfor %}",
    "llama-3": "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + "
               "'<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}"
               "{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
    "zephyr": "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + eos_token }}\n"
              "{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'assistant' %}\n"
              "{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n"
              "{% endif %}\n{% endfor %}",
    "qwen3": QWEN3,
    # Not of a family: the rest of what is known.
    "parts": "{# a comment #}\n  {%- set x = [1, 2.5, 'a', true, none] %}\n{% for i in range(3) %}\n  {{ i }}{{ ',' if not loop.last }}\n{% else %}none{% endfor %}\n"
             "{{ x | length }} {{ x[0] + 2 * 3 - 7 // 2 }} {{ 7 % 4 }} {{ 7 / 2 }} {{ -x[0] }} {{ 'a' ~ 1 ~ none ~ true ~ 2.5 }}\n"
             "   {% if 'b' not in 'abc' or x[-1] is none %}yes{% endif %}\n{% set y %}cap{{ 'tured' | upper }}{% endset %}{{ y }}\n"
             "{% for k, v in {'p': 1, 'q': [1, {'r': 'é\"\\\\'}]}.items() %}{{ k }}={{ v | tojson }};{% endfor %}\n"
             "{% for m in messages if m.role == 'user' %}{{ loop.index }}/{{ loop.length }}{% if loop.index > 1 %}{% break %}{% endif %}{{ m.content[:3] }}{% endfor %}\n"
             "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}{{ (messages | first).role }}{{ (messages|last)['role'] }}\n"
             "{{ undefined_thing }}{{ undefined_thing is defined }}{{ undefined_thing | default('d') }}{{ ' a b  c '.split() | join('-') }}\n"
             "{{ 'a,b,c'.split(',', 1)[1] }}{{ '  x '.lstrip() }}|{{ 'xxaxx'.strip('x') }}|{{ 'aXbX' | replace('X', '--') }}|{{ 'hELLO' | capitalize }}\n"
             "{%- for i in [1, 2, 3] -%} {{ i }} {%- if i is odd %}odd{% endif %}\n{%+ endfor %}\n"
             "{{ {'a': [1, 2, {}], 'b': []} | tojson(indent=2) }} {{ (1, 2)[1] }} {{ 'abc'[::-1] }} {{ 'é中😀x'[1:3] }} {{ 1 if false }}\n\n",
}

CONVERSATIONS = [
    [{"role": "user", "content": "Hello, how are you?"}],
    [{"role": "system", "content": "You are terse."}, {"role": "user", "content": "  Hi \n"}, {"role": "assistant", "content": "Hm. "},
     {"role": "user", "content": "中文 é 😀 {{ braces }} {% tag %}"}],
    [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "<think>\nfour\n</think>\n\n4"}, {"role": "user", "content": "sure?"},
     {"role": "assistant", "content": "<think>\nyes\n</think>\n\nYes."}],
    [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "reasoning_content": "why\n"}],
    [{"role": "user", "content": "weather?"}, {"role": "assistant", "content": "", "tool_calls": [
        {"type": "function", "function": {"name": "weather", "arguments": {"city": "Köln", "days": 3, "x": [1.5, None, True]}}}, {"name": "f", "arguments": "{}"}]},
     {"role": "tool", "content": "12°"}, {"role": "tool", "content": "13°"}, {"role": "assistant", "content": "Mild."}],
    [{"role": "user", "content": "x"}, {"role": "user", "content": "y"}],
    [{"role": "system", "content": ""}, {"role": "assistant", "content": "starts"}],
]

EXTRAS = [{}, {"enable_thinking": False}, {"tools": [{"type": "function", "function": {"name": "weather", "parameters": {"city": {"type": "string"}}}}]}]
