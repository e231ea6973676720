"""An engine on another machine, behind the face of the one on this: any server of OpenAI's chat completions."""
